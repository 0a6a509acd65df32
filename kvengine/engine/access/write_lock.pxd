"""The write lock as C sees it."""

from libc.stdint cimport uint64_t

from kvengine.engine.log.durable cimport pthread_cond_t, pthread_mutex_t
from kvengine.engine.access.reading cimport Reader

cdef enum:
    PAGE_WORDS = 64             # of the control page, as far as they are used

cdef class WriteLock(Reader):
    cdef uint64_t owner             # the thread that writes, or keeps writers out; 0: none
    cdef int sleepers               # threads that wait until it does not any more,
    cdef pthread_mutex_t queue      # and where they sleep
    cdef pthread_cond_t opened
    cdef int frozen                 # the index may not change: exclusively() is running
    cdef unsigned int forks         # of the process, when the store was opened
    cdef uint64_t *page             # words of the control page; never NULL: it may be `no_page`
    cdef uint64_t[PAGE_WORDS] no_page
    cdef bint is_alone              # it has the write lock without the mutex
    cdef uint64_t *shared           # `shared` on the page, or one that is never 0: it was not 0
    cdef uint64_t yielded_to         # the time stamp of the starved thread it yielded to

    cdef void _make_queue(self) noexcept
    cdef int _wait_for_write_lock(self, uint64_t *since) except -1
    cdef int acquire(self) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef bint try_write_lock(self) except -1
    cdef void connect_write_lock(self, uint64_t *page) noexcept
    cdef bint _is_written_over(self) noexcept nogil
    cdef void release_write_lock(self) noexcept nogil
    cdef void release(self) noexcept
