"""Group commit as C sees it."""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.file.folder cimport Folder
from kvengine.file.mapped cimport MappedFile

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_condattr_init(pthread_condattr_t *attributes)
    int pthread_condattr_setclock(pthread_condattr_t *attributes, int clock)
    int pthread_condattr_destroy(pthread_condattr_t *attributes)
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, void *attributes)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_timedwait(
        pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)
    int pthread_cond_signal(pthread_cond_t *condition)
    int pthread_cond_destroy(pthread_cond_t *condition)

cdef extern from *:
    """
    #include <pthread.h>
    #include <stdint.h>
    static inline uint64_t kv_thread(void) { return (uint64_t)pthread_self(); }
    static inline uint64_t kv_load(const uint64_t *place) {
        return __atomic_load_n(place, __ATOMIC_SEQ_CST);
    }
    static inline void kv_publish(uint64_t *place, uint64_t value) {
        __atomic_store_n(place, value, __ATOMIC_RELEASE);
    }
    """
    uint64_t kv_thread() noexcept nogil
    uint64_t kv_load(const uint64_t *place) noexcept nogil
    void kv_publish(uint64_t *place, uint64_t value) noexcept nogil

cdef enum:
    FILES_AT_ONCE = 8           # filled segments that one sync takes along

cdef struct Plan:               # what a sync has to bring to disk
    int[FILES_AT_ONCE] fds      # segments that were filled before,
    int n
    int active                  # the one being written; -1: none
    int folder                  # -1: all names are on disk
    uint64_t segment            # the id of the active one
    uint64_t version            # all changes up to it are in these files

cdef class CommitGroup:
    cdef uint64_t *page         # words of the control page; never NULL
    cdef object keeper          # keeps it mapped
    cdef readonly uint64_t version  # of the last change that is in these files
    cdef uint64_t sync_ns       # how long the last sync took
    cdef list idle              # whose descriptors are given back when no sync is under way
    cdef list unsynced          # segments filled before `active` that await their sync
    cdef object active
    cdef uint64_t active_id
    cdef bint is_plain          # the folder is on disk, and no test is in between
    cdef public bint is_sync_due    # a thread syncs soon all that is appended before
    cdef object folder
    cdef Folder held            # the same, open; None: it is not on disk
    cdef int syncing            # threads of this process that are about to, or do
    cdef uint64_t leader        # the one that syncs a folder in Python; 0: none
    cdef readonly object failure    # the first sync that failed; nothing is synced after it
    cdef public object on_failure   # called with the StoreReadOnly, once

    cdef bint is_lost(self) noexcept nogil
    cdef int keep(self) except -1
    cdef void switch_to(self, MappedFile file, uint64_t segment_id) noexcept
    cdef void start_over(
        self, list unsynced, MappedFile file, uint64_t segment_id, uint64_t version) noexcept
    cdef int wait(self, uint64_t version, bint alone) except -1
    cdef list _plan(self, Plan *plan)
    cdef int _close_idle(self) except -1
    cdef int _take_part(self, Plan *plan, uint64_t version) noexcept nogil
    cdef int _lead_or_sleep(self, Plan *plan, uint64_t version, uint64_t since) noexcept nogil
    cdef bint _is_stuck(self, uint64_t since) noexcept nogil
    cdef int _lead(self, Plan *plan, uint64_t version) noexcept nogil
    cdef int _sync(self, Plan *plan) noexcept nogil
    cdef void _gather(self) noexcept nogil
    cdef int _refuse(self, int code) noexcept nogil
    cdef int _wait_in_python(self, uint64_t version, bint alone) except -1
    cdef int _sync_in_python(self) except -1
    cdef void _prune(self, list files) noexcept
