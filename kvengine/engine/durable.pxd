"""Group commit as C sees it."""

from libc.stdint cimport uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, void *attributes)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_destroy(pthread_cond_t *condition)

cdef class CommitGroup:
    cdef pthread_mutex_t mutex      # guards `syncing` and the order of `synced`
    cdef pthread_cond_t changed
    cdef bint syncing
    cdef readonly uint64_t appended # bytes written to the log since it was opened
    cdef readonly uint64_t synced   # of these, the ones known to be on disk
    cdef readonly uint64_t version  # of the last change among `appended`
    cdef readonly uint64_t durable_version
    cdef list unsynced              # segments filled before `active` that await their sync
    cdef object active
    cdef object folder
    cdef bint folder_is_stale       # a new segment's name may not be on disk yet
    cdef readonly object failure    # the first sync that failed; nothing is synced after it
    cdef uint64_t *control          # where other processes read durable_version

    cdef int wait(self, uint64_t ticket, bint alone) except -1
    cdef int _sync_all(self) except -1
