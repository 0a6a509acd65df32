"""Waiting and holding that no interruption breaks.

Invariants:

* Every wait releases the GIL, and Ctrl-C in the main thread can end it; such a wait has taken
  nothing.  gevent and eventlet, which replace the modules `threading` and `time`, do not affect
  this module.
* What is held (a lock, a pin) belongs to an object, and is released with it: no exception between
  two lines of Python can leak it.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_get_thread_ident,
    PyThread_release_lock, PyThread_type_lock,
)

cdef extern from "pythread.h" nogil:
    int PY_LOCK_ACQUIRED
    int PyThread_acquire_lock_timed(
        PyThread_type_lock lock, long long microseconds, int stops_for_signals)

cdef enum:
    CHECK_US = 50000            # how often a wait looks for signals that came to another thread


cdef PyThread_type_lock new_lock() except NULL:
    cdef PyThread_type_lock lock = PyThread_allocate_lock()
    if lock == NULL:
        raise MemoryError
    return lock


cdef bint take(PyThread_type_lock lock, double seconds) except -1:
    """Take a lock within a time (negative: however long it takes); True if that worked.

    Raises whatever a signal handler raises meanwhile; the lock is not taken then.
    """
    cdef double rest_us = seconds * 1e6
    cdef double step
    cdef int status
    if PyThread_acquire_lock(lock, 0):
        return True
    while seconds < 0 or rest_us > 0:
        step = CHECK_US if seconds < 0 else min(<double>CHECK_US, rest_us)
        with nogil:
            status = PyThread_acquire_lock_timed(lock, <long long>step + 1, 1)
        if status == PY_LOCK_ACQUIRED:
            return True
        rest_us -= step
        PyErr_CheckSignals()
    return False


cdef class Latch:
    """An event that happens once; threads may wait for it.

    Thread-safety: any number of threads may wait; open() may be called by any.
    """

    def __cinit__(self) -> None:
        self.lock = new_lock()
        PyThread_acquire_lock(self.lock, 0)

    def __dealloc__(self) -> None:
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    def open(self) -> None:
        """Release the waiters; opening it twice is not an error."""
        self.release()

    cdef void release(self) noexcept:
        """As open(), which needs no memory so."""
        if not self.is_open:
            self.is_open = True
            PyThread_release_lock(self.lock)

    def wait(self, seconds: float = -1) -> bool:
        """Return True when it is open, False after a time; negative: however long it takes."""
        if not self.is_open and take(self.lock, seconds):
            PyThread_release_lock(self.lock)
        return self.is_open


cdef class OwnedLock:
    """A lock that the thread which holds it may take again.

    Thread-safety: its purpose.  It is taken by a thread of the operating system, not by a
    greenlet.
    """

    cdef PyThread_type_lock lock
    cdef unsigned long owner
    cdef Py_ssize_t depth
    cdef readonly bint is_busy      # it is held by a job
    cdef Py_ssize_t waiting         # so many threads want it

    def __cinit__(self) -> None:
        self.lock = new_lock()

    def __dealloc__(self) -> None:
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int acquire(self) except -1:
        if not self.is_mine():
            self.waiting += 1
            try:
                take(self.lock, -1)
            finally:
                self.waiting -= 1
            self.owner = PyThread_get_thread_ident()
        self.depth += 1
        return 0

    cdef void release(self) noexcept:
        self.depth -= 1
        if self.depth == 0:
            PyThread_release_lock(self.lock)

    cpdef bint is_mine(self):
        """True if this thread holds the lock."""
        return self.depth > 0 and self.owner == PyThread_get_thread_ident()

    def held(self, is_job: bool = False) -> Hold:
        """Take the lock until the result is left as a context manager, or dropped.

        With `is_job` the lock `is_busy` so long.
        """
        return Hold(self, is_job)

    def __enter__(self) -> OwnedLock:
        self.acquire()
        return self

    def __exit__(self, *exc_info) -> None:
        self.release()

    def after_fork_in_child(self) -> None:
        """Free it, unless this is the thread that held it: that one goes on and gives it back."""
        if not self.is_mine():
            self.lock = new_lock()
            self.depth = self.waiting = 0
            self.is_busy = False


@cython.no_gc_clear
cdef class Hold:
    """An OwnedLock, held."""

    cdef OwnedLock lock
    cdef bint active, was_busy

    def __cinit__(self, OwnedLock lock not None, is_job: bool = False) -> None:
        lock.acquire()
        self.lock, self.active, self.was_busy = lock, True, lock.is_busy
        lock.is_busy |= is_job

    def __dealloc__(self) -> None:
        self.end()

    def is_wanted(self) -> bool:
        """True if another thread waits for the lock."""
        return self.lock.waiting > 0

    cdef void end(self) noexcept:
        if self.active:
            self.active = False
            self.lock.is_busy = self.was_busy
            self.lock.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exc_info) -> None:
        self.end()


cdef class Pins:
    """How many are using files that must stay where they are.

    Thread-safety: a count that changes while the GIL is held.
    """

    cdef readonly Py_ssize_t count

    def pin(self) -> Pin:
        """Count one more until the result is left as a context manager, or dropped."""
        return Pin(self)


@cython.no_gc_clear
cdef class Pin:
    """A user of files."""

    cdef Pins pins
    cdef bint active

    def __cinit__(self, Pins pins not None) -> None:
        self.pins, self.active = pins, True
        pins.count += 1

    def __dealloc__(self) -> None:
        self.end()

    cdef void end(self) noexcept:
        if self.active:
            self.active = False
            self.pins.count -= 1

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *exc_info) -> None:
        self.end()
