"""Operating system threads that nothing interrupts.

Invariants:

* A Worker is created with pthread_create and receives no signals: no handler runs in it, and gevent
  or eventlet, which replace the module `threading`, do not affect it.
* No thread takes the interpreter's own lock, for its list of threads, while another one can fork:
  the child would wait for that lock forever.  The usual PyGILState_Ensure() does just that.  The
  only exception is while tracemalloc traces, which needs the GIL for the memory of a thread.
* The thread continues whatever its step raises.
* A waiter for a task wakes once the task has begun, and learns how it ended: this is compiled code,
  so it works even if memory runs out at any point.
"""

from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF

from kvengine.engine.log.durable cimport (
    CLOCK_MONOTONIC, clock_gettime, pthread_cond_destroy, pthread_cond_init, pthread_cond_signal,
    pthread_cond_t, pthread_cond_timedwait, pthread_cond_wait, pthread_condattr_destroy,
    pthread_condattr_init, pthread_condattr_setclock, pthread_condattr_t, pthread_mutex_destroy,
    pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock, timespec,
)

from kvengine.engine.jobs.holding cimport Latch

cdef extern from *:
    """
    #include <pthread.h>
    #include <semaphore.h>
    #include <signal.h>
    #define IS_NOT_TRACING -2       /* what PyTraceMalloc_Untrack() returns then */
    typedef struct {
        PyInterpreterState *interpreter;
        void (*run)(void *);
        void *argument;
        sem_t is_known;
        int has_state;
    } kv_start;
    static void *kv_run_thread(void *argument) {
        kv_start *start = argument;
        void (*run)(void *) = start->run;
        void *about = start->argument;
        PyThreadState *state = PyThreadState_New(start->interpreter);
        start->has_state = state != NULL;
        sem_post(&start->is_known);     /* `start` is gone from here on */
        if (state != NULL) {
            PyEval_RestoreThread(state);
            run(about);
            PyThreadState_Clear(state);
            PyThreadState_DeleteCurrent();
        }
        return NULL;
    }
    static void kv_await(kv_start *start) {
        while (sem_wait(&start->is_known) != 0) {}
    }
    /* Start a thread that inherits a mask that blocks every signal, and calls `run` with the GIL.
       The caller keeps the GIL until the interpreter knows the thread, so nobody forks before.
       Where tracemalloc is on, PyThreadState_New() needs the GIL, and the caller lets go of it. */
    static int kv_start_thread(pthread_t *thread, void (*run)(void *), void *argument) {
        kv_start start = {PyInterpreterState_Get(), run, argument};
        sigset_t all, before;
        sem_init(&start.is_known, 0, 0);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int code = pthread_create(thread, NULL, kv_run_thread, &start);
        if (code == 0) {
            if (PyTraceMalloc_Untrack(0, (uintptr_t)&start) == IS_NOT_TRACING) {
                kv_await(&start);
            } else {
                Py_BEGIN_ALLOW_THREADS
                kv_await(&start);
                Py_END_ALLOW_THREADS
            }
            if (!start.has_state) {
                pthread_join(*thread, NULL);
                code = ENOMEM;
            }
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        sem_destroy(&start.is_known);
        return code;
    }
    """
    ctypedef struct pthread_t:
        pass
    int kv_start_thread(pthread_t *thread, void (*run)(void *) noexcept, void *argument)
    int pthread_join(pthread_t thread, void **result) nogil
    int pthread_detach(pthread_t thread) nogil


cdef enum:
    AGAIN_MS = 50               # a step that failed is made again after so long


cdef class Task:
    """One call that waits for a thread, or is carried out by it.

    Thread-safety: threads may share it; who carries it out holds the lock of its kind of task.
    """

    cdef object action              # None once it has begun
    cdef object result, error
    cdef readonly Latch done
    cdef bint has_result
    cdef readonly bint is_cancelled

    def __cinit__(self, action: object) -> None:
        self.action = action
        self.done = Latch()

    def carry_out(self, begin: object, store: object) -> None:
        """Call begin(task, store) and then the action, unless that has been done before."""
        action, self.action = self.action, None  # it refers to the store
        if action is None:
            if self.is_cancelled:
                self.done.release()
            return
        try:
            begin(self, store)
            self.result = action()
            self.has_result = True
        except BaseException as error:  # noqa: BLE001  # the caller's to handle
            self.error = error
        finally:
            self.done.release()

    def cancel(self) -> None:
        """Nobody waits any more: forget a call that was not made yet, and with it the store."""
        self.is_cancelled = True
        self.action = None

    def outcome(self) -> object:
        """Return what the action returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        if not self.has_result:
            raise MemoryError("a job ended, but there was no memory for its result")
        return self.result


cdef class Worker:
    """A thread that calls `step` when it is woken, or after the seconds that `step` returned.

    None or a negative number: only when it is woken.  What `step` raises is lost.

    Thread-safety: any thread may wake and stop it.
    """

    cdef object step
    cdef Latch ended            # it is open when the thread has left its loop
    cdef pthread_t thread
    cdef unsigned long ident
    cdef pthread_mutex_t mutex      # held for moments, and never while waiting for the GIL
    cdef pthread_cond_t changed
    cdef bint is_started            # `thread` is one that must be joined
    cdef bint is_alive              # it has not left its loop
    cdef bint is_woken, is_stopping

    def __cinit__(self, step: object) -> None:
        self.step = step
        self._init_locks()

    def _init_locks(self) -> None:
        cdef pthread_condattr_t attributes
        pthread_mutex_init(&self.mutex, NULL)
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(&self.changed, &attributes)
        pthread_condattr_destroy(&attributes)

    def __dealloc__(self) -> None:
        if self.is_started:  # it ends by itself: it held a reference to this until its last step
            pthread_detach(self.thread)
        pthread_cond_destroy(&self.changed)
        pthread_mutex_destroy(&self.mutex)

    def is_current(self) -> bool:
        """True in the thread itself."""
        return self.is_alive and self.ident == PyThread_get_thread_ident()

    def wake(self) -> bool:
        """Let `step` be called soon; False if there is no thread and none can be started."""
        pthread_mutex_lock(&self.mutex)
        self.is_woken = True
        self.is_stopping = False
        cdef bint is_alive = self.is_alive
        pthread_cond_signal(&self.changed)
        pthread_mutex_unlock(&self.mutex)
        return is_alive or self._start()

    cdef bint _start(self) except -1:
        cdef int code
        cdef Latch ended = Latch()
        self.is_alive = True        # no other thread starts it from here on
        self._join()
        Py_INCREF(self)             # for the thread
        self.ended = ended          # the thread may look at it before kv_start_thread() returns
        code = kv_start_thread(&self.thread, run, <void *>self)
        if code != 0:
            self.is_alive = False
            ended.release()         # no thread was started, so none will end
            Py_DECREF(self)
            return False
        self.is_started = True
        return True

    cdef void _join(self) noexcept:
        """Wait for the last instructions of a thread that has left its loop."""
        cdef pthread_t thread = self.thread
        if self.is_started:
            self.is_started = False
            with nogil:
                pthread_join(thread, NULL)

    def stop(self) -> None:
        """Return when the thread has ended, after the step under way; wake() starts another.

        In the thread itself: return at once, and let it end after this step.
        """
        cdef Latch ended = self.ended
        self._ask_to_stop()
        if ended is None or self.is_current():
            return
        while not ended.wait(0.05):
            self._ask_to_stop()     # it may have been woken meanwhile
        if ended is self.ended and not self.is_alive:
            self._join()

    cdef void _ask_to_stop(self) noexcept:
        pthread_mutex_lock(&self.mutex)
        self.is_stopping = self.is_alive
        pthread_cond_signal(&self.changed)
        pthread_mutex_unlock(&self.mutex)

    def after_fork_in_child(self) -> None:
        """The thread is not in this process."""
        self._init_locks()
        self.is_started = self.is_alive = self.is_woken = self.is_stopping = False
        self.ended = None

    cdef bint _sleep(self, double seconds) noexcept nogil:
        """Wait to be woken, or for a time if that is not negative; False: end the thread."""
        cdef timespec until
        cdef double end
        clock_gettime(CLOCK_MONOTONIC, &until)
        if seconds >= 0:
            end = <double>until.tv_nsec * 1e-9 + seconds
            until.tv_sec += <long>end
            until.tv_nsec = <long>((end - <double><long>end) * 1e9)
        pthread_mutex_lock(&self.mutex)
        while not self.is_woken and not self.is_stopping:
            if seconds < 0:
                pthread_cond_wait(&self.changed, &self.mutex)
            elif pthread_cond_timedwait(&self.changed, &self.mutex, &until) != 0:
                break
        self.is_woken = False
        if self.is_stopping:
            self.is_alive = False
        cdef bint goes_on = self.is_alive
        pthread_mutex_unlock(&self.mutex)
        return goes_on

    cdef int _loop(self) except -1:
        cdef double seconds = -1
        cdef bint goes_on
        while True:
            with nogil:
                goes_on = self._sleep(seconds)
            if not goes_on:
                return 0
            seconds = AGAIN_MS * 1e-3
            try:
                answer = self.step()
                seconds = -1 if answer is None else answer
            except BaseException:  # noqa: BLE001  # no caller to report it to
                pass


cdef void run(void *argument) noexcept:
    worker = <Worker>argument
    worker.ident = PyThread_get_thread_ident()
    worker._loop()
    (<Worker>worker).ended.release()
    Py_DECREF(worker)               # the reference that _start() made
    worker = None
