"""Group commit as C sees it."""

from libc.stdint cimport uint64_t

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
    int pthread_mutex_trylock(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, pthread_condattr_t *attributes)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_timedwait(
        pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)
    int pthread_cond_signal(pthread_cond_t *condition)
    int pthread_cond_broadcast(pthread_cond_t *condition)
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

cdef class CommitGroup:
    cdef pthread_mutex_t mutex      # guards `syncing` and the order of `synced`
    cdef pthread_cond_t changed     # a sync is over
    cdef pthread_cond_t arrived     # enough threads wait for the next one
    cdef bint syncing
    cdef uint64_t leader            # the thread that does
    cdef int here                   # threads that came for the next sync
    cdef int expected               # threads that came for the last one
    cdef int gathering              # threads that the one about to sync waits for; 0: it does not
    cdef uint64_t sync_ns           # how long the last sync took
    cdef readonly uint64_t appended  # bytes written to the log since it was opened
    cdef readonly uint64_t synced   # of these, the ones known to be on disk
    cdef readonly uint64_t version  # of the last change among `appended`
    cdef readonly uint64_t durable_version
    cdef list unsynced              # segments filled before `active` that await their sync
    cdef object active
    cdef int only_fd                # of `active`, while nothing else needs a sync; else -1
    cdef bint has_failed
    cdef int failed_code            # what _refusal() says of the first sync that failed,
    cdef const char *failed_what
    cdef str failed_name            # None: the folder is gone
    cdef bint is_plain              # the folder is on disk, and no test is in between
    cdef public bint is_sync_due    # a thread syncs soon all that is appended before
    cdef object folder
    cdef Folder held                # the same, open; None: there is none on disk
    cdef uint64_t begun_files       # segments begun so far,
    cdef uint64_t named_files       # and of these, the ones whose names are on disk
    cdef readonly object failure    # the first sync that failed; nothing is synced after it
    cdef public object on_failure   # called with the StoreReadOnly, once
    cdef uint64_t *control          # where other processes read durable_version

    cdef bint is_lost(self) noexcept nogil
    cdef int keep(self) except -1
    cdef void go_on_in(self, MappedFile file) noexcept
    cdef int wait(self, uint64_t ticket, bint alone) except -1
    cdef int _sync_all(self) except -1
    cdef bint _queue(self, uint64_t ticket, bint alone) noexcept nogil
    cdef void _gather(self) noexcept nogil
    cdef int _lead(self, int code) except -1
    cdef int _sync_and_note(self) except -1
    cdef int _keep(self, int code, const char *what, str name) noexcept
    cdef object _refusal(self)
    cdef void _hand_over(self) noexcept
    cdef void _make_locks(self) noexcept
    cdef int _lead_without_gil(self) noexcept nogil
    cdef void _note(self, uint64_t target, uint64_t version, const timespec *begun) noexcept nogil
    cdef void _choose_fd(self) noexcept
