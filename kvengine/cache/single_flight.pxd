"""SingleFlight: of all callers that miss a key, one makes its value and the others wait."""

from libc.stdint cimport uint64_t

cdef class Epoch:
    cdef uint64_t now           # what began in another one is void

cdef class Flight:
    cdef Epoch epoch
    cdef uint64_t began         # in this epoch
    cdef bint is_forgotten
    cdef bint is_done
    cdef bint is_left           # its maker was interrupted: another caller should try
    cdef object result, error
    cdef object landed          # a lock that is held until it is done
    cdef object gate            # a lock that is held while its value is stored
    cdef object storing         # the thread that stores it
    cdef object thread          # the thread that makes it
    cdef list needs             # flights that its maker leads or waits for
    cdef list waiters           # (event loop, future) of tasks

    cdef inline bint is_void(self) noexcept:
        return self.is_forgotten or self.began != self.epoch.now

cdef class SingleFlight:
    cdef Epoch epoch
    cdef dict under_way         # by key
    cdef dict stores            # the key of each flight that is being stored
    cdef int process            # that has begun them

    cdef int check_fork(self) except -1
    cdef Flight join(self, object key, Flight own)
    cdef int lead(self, Flight own) except -1
    cdef int land(self, object key, Flight own) except -1
