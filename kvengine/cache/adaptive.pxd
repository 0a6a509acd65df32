"""The adaptive policy: small copies of the cache try out what would be best."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from kvengine.cache.greedy cimport Greedy
from kvengine.cache.table cimport Table

cdef class Shadow:
    cdef Table table
    cdef Greedy policy
    cdef double score

    cdef void access(self, uint32_t hash, uint32_t size, bint by_bytes) noexcept

cdef class Adaptive(Greedy):
    cdef readonly int chosen    # the candidate
    cdef list shadows
    cdef int sample_shift       # 0: nothing is sampled
    cdef bint by_bytes
    cdef int64_t sized_for      # entries
    cdef int64_t wanted         # for so many entries shadows are wanted; 0: they are right
    cdef uint64_t seen, period  # sampled requests, and after how many the best candidate is chosen

    cdef void sampled(self, uint32_t hash, uint32_t size) noexcept
    cdef void choose(self) noexcept
    cdef int make_shadows(self, int64_t entries) except -1

cdef inline bint is_sample(uint32_t hash, int shift) noexcept nogil:
    """True for one key in 2 ** (32 - shift), always the same ones."""
    return <uint64_t>(<uint32_t>(hash * <uint32_t>0x9E3779B1)) >> shift == 0
