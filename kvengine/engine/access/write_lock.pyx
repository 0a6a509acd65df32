"""The right to append to the log: one thread of one process at a time has it.

Invariants:

* One thread of all processes at a time holds the write lock, the mutex on the control page.  No
  thread waits for it, or holds it, while it waits for another thread, the GIL or a sync: a thread
  that finds it taken releases everything and tries again.  So it depends only on the writer, and if
  the writer is killed, the next thread gets it.
* One thread of this process at a time writes, or keeps writers out (`owner`, guarded by the GIL).
  During a write no Python code runs: nothing is called or raised, and no object is created that the
  collector tracks.  So a signal handler or a finalizer that writes never finds its own thread in
  the way, except inside exclusively(), where it gets StoreBusy at once.
* While no other store has joined (`shared` is 0), a store takes no mutex: it sets `inside`, and
  checks again that it is alone.  The first store that joins marks the write lock as shared, makes
  every processor see that, and waits until `inside` is 0; from then on all take the mutex.  A
  process that has seen this trusts no page that says otherwise: the file was truncated or
  overwritten, and no process writes any more.
* Passing the write lock between processes costs more than a put.  So a thread that finds it taken
  sleeps for some microseconds, and the holder makes more puts meanwhile.  A thread that has slept
  for a millisecond says so, and the others yield once.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBUSY
from libc.stdint cimport uint64_t

from kvengine.engine.log.durable cimport (
    kv_load, kv_thread, pthread_cond_destroy, pthread_cond_init,
    pthread_cond_signal, pthread_cond_wait, pthread_mutex_destroy, pthread_mutex_init,
    pthread_mutex_lock, pthread_mutex_unlock,
)
from kvengine.engine.log.page cimport (
    HELD, STARVED, INSIDE, IS_SHARED, LAYOUT, MUTEX_LAYOUT, WRITE_LOCK, SHARED, give_mutex,
    load_word, now_us, step_inside, store_word, try_mutex, wait_for_write_lock,
)
from kvengine.file.mapped cimport storage_error

from kvengine.engine.log.control import written_over
from kvengine.errors import StoreBusy, StoreClosed
from kvengine.file.system import run_fork_hooks

cdef extern from "Python.h":
    int PyGC_Enable()
    int PyGC_Disable()

cdef extern from *:
    """
    #include <pthread.h>
    /* Counted by the system's own handler: it comes before any Python code in the child. */
    static unsigned int kv_forks = 0;
    static void kv_forked(void) { kv_forks++; }
    static void kv_watch_forks(void) { pthread_atfork(NULL, NULL, kv_forked); }
    """
    unsigned int kv_forks
    void kv_watch_forks()

cdef enum:
    SPINS = 300                 # checks of the write lock before a sleep: some microseconds
    SLEEP_US = 50
    STARVED_US = 1000           # a thread that has waited for so long says so,
    PATIENT_US = 20000          # and after this checks less often
    LONG_SLEEP_US = 500

cdef uint64_t ALWAYS = IS_SHARED

FORKED = (
    "this process was forked without notifying Python after the store was opened: open "
    "it again in the child")
cdef str BUSY = (
    "this thread is in the middle of an operation that blocks writers; call again when it is over, "
    "for example from another thread")


cdef class WriteLock(Reader):
    """A Reader that may take the write lock."""

    def __cinit__(self, *args, **kwargs) -> None:
        self._make_queue()
        self.page = self.no_page
        self.shared = &self.no_page[SHARED]
        self.forks = kv_forks

    cdef void _make_queue(self) noexcept:
        pthread_mutex_init(&self.queue, NULL)
        pthread_cond_init(&self.opened, NULL)

    def __dealloc__(self) -> None:
        pthread_cond_destroy(&self.opened)
        pthread_mutex_destroy(&self.queue)

    cdef int acquire(self) except -1:
        """Become the one thread that writes; from here to release() no Python code may run."""
        cdef uint64_t since = 0
        while True:
            if self.forks != kv_forks:
                self.notice_fork()
            if self.unusable is not None:
                self._refuse_use()
            self.enter()
            if self.try_write_lock():
                return 0
            self._wait_for_write_lock(&since)

    cdef int enter(self) except -1:
        """Become the one thread of this process that writes, or keeps others from it."""
        if self.forks != kv_forks:
            raise StoreClosed(FORKED)
        while self.owner != 0:
            if self.owner == kv_thread():
                raise StoreBusy(BUSY)
            self.sleepers += 1
            with nogil:
                pthread_mutex_lock(&self.queue)
                if kv_load(&self.owner) != 0:
                    pthread_cond_wait(&self.opened, &self.queue)
                pthread_mutex_unlock(&self.queue)
            self.sleepers -= 1
        self.owner = kv_thread()
        return 0

    def notice_fork(self) -> None:
        """Run the fork hooks after a fork without Python, as of uWSGI."""
        if self.forks != kv_forks:
            run_fork_hooks(self.knows_of_fork)

    def knows_of_fork(self) -> bool:
        """True if what this holds is of this process."""
        return self.forks == kv_forks

    cdef void leave(self) noexcept:
        self.owner = 0
        if self.sleepers:
            pthread_mutex_lock(&self.queue)
            pthread_cond_signal(&self.opened)
            pthread_mutex_unlock(&self.queue)

    cdef void connect_write_lock(self, uint64_t *page) noexcept:
        """Use the write lock on a page."""
        self.page = page
        self.shared = &page[SHARED] if load_word(&page[SHARED]) == 0 else &ALWAYS

    cdef bint try_write_lock(self) except -1:
        """Take the write lock if it is free; if not leave(), and return False."""
        cdef uint64_t starved
        cdef int code = EBUSY
        if load_word(self.shared) == 0:
            step_inside(&self.page[INSIDE])
            if load_word(self.shared) == 0:
                self.is_alone = True
                return True
            store_word(&self.page[INSIDE], 0)
        self.shared = &ALWAYS
        starved = load_word(&self.page[STARVED])
        if starved == 0 or starved == self.yielded_to:
            code = try_mutex(&self.page[WRITE_LOCK])
        else:
            self.yielded_to = starved
        if code == 0:
            store_word(&self.page[HELD], 1)
            if starved:
                store_word(&self.page[STARVED], 0)
            if self._is_written_over():
                self.release()
                raise written_over("CONTROL")
            return True
        self.leave()
        if code != EBUSY:
            # Not recoverable, or no mutex any more: another program has had it.  The C library
            # tells so once, and then that it is taken, so all others hear of it here.
            store_word(&self.page[LAYOUT], 0)
            raise storage_error(
                code,
                "cannot take the write lock; close the store in all processes and open it again",
                "CONTROL")
        return False

    cdef bint _is_written_over(self) noexcept nogil:
        """True if the page that processes share is not that which was set up."""
        return (
            load_word(&self.page[LAYOUT]) != MUTEX_LAYOUT or load_word(&self.page[SHARED]) == 0)

    cdef void release_write_lock(self) noexcept nogil:
        if self.is_alone:
            self.is_alone = False
            store_word(&self.page[INSIDE], 0)
            return
        store_word(&self.page[HELD], 0)
        give_mutex(&self.page[WRITE_LOCK])

    cdef int _wait_for_write_lock(self, uint64_t *since) except -1:
        """Sleep for a moment; `since` is when that began, 0 at first."""
        cdef uint64_t now = now_us()
        cdef uint64_t waited
        cdef long sleep_us = SLEEP_US
        if since[0] == 0:
            since[0] = now
        waited = now - since[0]
        if waited > STARVED_US:
            self.yielded_to = now  # not to itself
            store_word(&self.page[STARVED], now)
        if waited > PATIENT_US:  # a large write, or one that was stopped in the middle
            sleep_us = LONG_SLEEP_US
            PyErr_CheckSignals()
            if self._is_written_over():
                raise written_over("CONTROL")
        with nogil:
            wait_for_write_lock(self.page, SPINS, sleep_us)
        return 0

    cdef void release(self) noexcept:
        self.release_write_lock()
        self.leave()

    def refuse_inside(self) -> None:
        """Refuse what would wait for another thread that may need to keep writers out.

        Raises:
            StoreBusy: this very thread does.
        """
        if self.owner == kv_thread():
            raise StoreBusy(BUSY)

    def exclusively(self, action: object, *args: object) -> object:
        """Call `action` while no other thread changes the index, and return what it returns.

        It is compiled code, or runs on the job thread: so no signal handler can come in between.
        No finalizer does, for garbage is not collected meanwhile.  It is also for a store that
        takes no more writes: after a sync that failed one still wants to look.  Other processes
        write on; what they have written is followed after.

        Raises:
            StoreClosed: the process was forked since the store was opened.
            StoreBusy: called from inside such an action.
        """
        self.enter()
        self.frozen += 1
        cdef bint collects = PyGC_Disable()
        try:
            return action(*args)
        finally:
            if collects:
                PyGC_Enable()
            self.frozen -= 1
            self.leave()

    def after_fork(self) -> None:
        """In a child: the threads that wrote, or waited to, are not here."""
        self._make_queue()
        self.owner = self.sleepers = self.frozen = 0
        self.is_alone = False
        self.forks = kv_forks


kv_watch_forks()
