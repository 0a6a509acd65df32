"""The W-TinyLFU policy."""

from libc.stdint cimport int32_t, uint64_t

from kvengine.cache.policy cimport Policy, Queue
from kvengine.cache.sketch cimport Sketch

cdef class WTinyLfu(Policy):
    cdef Sketch sketch
    cdef Queue window, probation, protected
    cdef int32_t pending        # left the window and is not on probation yet
    cdef uint64_t operations

    cdef Queue *queue_of(self, int32_t slot) noexcept
    cdef bint is_wanted_more(self, int32_t slot, int32_t other) noexcept
