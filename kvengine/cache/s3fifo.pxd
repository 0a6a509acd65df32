"""The S3-FIFO policy."""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from kvengine.cache.policy cimport Policy, Queue

ctypedef struct Ghost:
    uint32_t hash
    uint32_t moment             # how many had gone when it went

cdef class S3Fifo(Policy):
    cdef Queue small, main
    cdef Ghost *ghosts
    cdef uint64_t mask          # ghosts there is room for, less one
    cdef uint32_t moment        # how many have gone
    cdef bint was_ghost
    cdef int32_t newest         # the slot of the entry that came last

    cdef void haunt(self, uint32_t hash) noexcept
