"""Sizes of groups of keys, as C sees them."""

from libc.stdint cimport int64_t, uint64_t

from kvengine.engine.log.record cimport Header

cdef struct GroupRow:
    int64_t keys, bytes

cdef struct GroupTotal:         # of what had not expired at the last read
    int64_t keys, bytes
    double asked_at, holds_until    # until then no more moment passes

cdef class GroupSizes:
    cdef readonly bytes first       # keys that begin so are counted,
    cdef readonly int size          # by so many bytes
    cdef readonly bint stale        # the counts are not those of the index
    cdef dict groups                # {group: {expiry: number of the row}}
    cdef GroupRow *rows
    cdef Py_ssize_t count, room
    cdef list free_rows
    cdef dict total_numbers         # {group: number of its total}
    cdef GroupTotal *totals
    cdef Py_ssize_t total_count, total_room
    cdef uint64_t last_group        # the row that was used last
    cdef double last_expiry
    cdef Py_ssize_t last_row        # -1: there is none
    cdef Py_ssize_t last_total

    cdef void add(
        self, const char *key, uint64_t key_size, uint64_t other_bytes, double expires_at, int sign
    ) noexcept
    cdef void add_record(self, const Header *header, int sign) noexcept
    cdef bint seek(self, uint64_t group, double expires_at) noexcept
    cdef void forget_row(self, uint64_t group, double expires_at) noexcept
    cdef Py_ssize_t row_of(self, uint64_t group, double expires_at) except -1
    cdef Py_ssize_t total_of(self, uint64_t group) except -1
    cdef int recount(self, uint64_t group, GroupTotal *total, double moment) except -1
    cdef int grow(self) except -1
    cdef int grow_totals(self) except -1
