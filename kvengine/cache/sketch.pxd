"""How often keys were asked for, roughly."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t


@cython.final
cdef class Sketch:
    cdef uint8_t *counters
    cdef uint64_t blocks        # of 64 counters
    cdef uint8_t most           # where counters end

    cdef int estimate(self, uint32_t hash) noexcept
    cdef void add(self, uint32_t hash, int times) noexcept
    cdef void halve(self) noexcept
    cdef bint fit(self, uint64_t keys) noexcept
