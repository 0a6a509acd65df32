"""Segments as C sees them: one row a slot, found by the slot number in an address."""

from libc.stdint cimport uint8_t, uint64_t

from kvengine.file.mapped cimport MappedFile

cdef enum:
    SLOTS_MAX = 65536
    OFFSET_BITS = 24            # of an address, in units of 16 bytes: 256 MiB a segment
    UNIT_BITS = 4
    SEGMENT_MAP_BYTES = 200 << 20   # where the log goes on: the largest segment, and a batch
    SEGMENT_HEADER_BYTES = 64
    CHUNK_BITS = 16             # residency is remembered for chunks of 64 KiB,
    CHUNKS = 4096               # which is this many a segment
    PROVEN_BYTES = 8192

cdef struct Segment:
    char *base                  # NULL: the slot is free
    uint64_t salt
    uint64_t end                # bytes in use; records below it are visible
    uint64_t id
    uint64_t live_bytes         # of records that the index points to
    uint64_t tombstone_bytes    # of delete records
    uint64_t expiring_bytes     # of live records that have an expiry
    double expiry_min, expiry_max   # of all records that had one; 0: none
    uint8_t *resident           # one byte a chunk: 1 if it was seen in memory
    uint8_t *verified             # one bit a page: the large value that begins there was checked

cdef inline uint64_t make_address(uint64_t slot, uint64_t offset) noexcept nogil:
    return slot << OFFSET_BITS | offset >> UNIT_BITS

cdef inline uint64_t slot_of(uint64_t address) noexcept nogil:
    return address >> OFFSET_BITS

cdef inline uint64_t offset_of(uint64_t address) noexcept nogil:
    return (address & ((1 << OFFSET_BITS) - 1)) << UNIT_BITS

cdef inline void note_expiry(Segment *row, double expires_at) noexcept nogil:
    """A record with an expiry went into the segment."""
    if row.expiry_max == 0 or expires_at < row.expiry_min:
        row.expiry_min = expires_at
    if expires_at > row.expiry_max:
        row.expiry_max = expires_at

cdef class NextSegment:
    cdef readonly SegmentTable table
    cdef readonly MappedFile file
    cdef readonly uint64_t id
    cdef uint64_t slot, first_version
    cdef list rows              # what the store consists of before,
    cdef list begun             # and with this segment
    cdef char[SEGMENT_HEADER_BYTES] header

    cdef int write_header(self) except -1

cdef class SegmentTable:
    cdef Segment *rows
    cdef list files             # slot -> MappedFile or None
    cdef dict slots             # segment id -> slot
    cdef list free              # slots that may be used again
    cdef set uncertain            # ids of segments of which a saved index says that nothing expires
    cdef set restored               # ids of segments whose counters a saved index gave
    cdef uint64_t used          # slots below this were used at least once

    cdef int forget(self, uint64_t segment_id, uint64_t slot) except -1
    cdef uint64_t add(
        self, MappedFile file, uint64_t segment_id, uint64_t salt, uint64_t end, bint resident,
    ) except 0
    cdef MappedFile file(self, uint64_t slot)
    cdef void fit(self) noexcept
    cdef bint _may_grow(self, uint64_t slot) noexcept
    cdef bint warm(self, uint64_t address) noexcept
    cdef int bring_in(self, uint64_t address) except -1
    cpdef bint may_expire(self) noexcept
    cdef int _fill(
        self, uint64_t slot, MappedFile file, uint64_t segment_id, uint64_t salt, uint64_t end,
        bint resident,
    ) except -1
