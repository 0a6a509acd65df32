"""Sums of records, as C sees them."""

from libc.stdint cimport int64_t, uint64_t

from kvengine.engine.log.record cimport Header

cdef struct Term:               # what one record adds to a sum
    uint64_t low, high

cdef Term term_of(const Header *header) noexcept nogil

cdef class DigestSum:
    cdef int64_t keys
    cdef uint64_t low, high     # of records that never expire
    cdef dict moments           # {second: (keys, low, high)} of those that do
    cdef readonly bint stale    # the sum is not that of the index
    cdef readonly uint64_t counted_to   # changes up to here are in it, though they come once more

    cdef void add_record(self, const Header *header, int sign) noexcept
    cdef int _merge(self, DigestSum other) except -1
    cdef int _add_expiring(self, double expires_at, Term term, int sign) except -1
