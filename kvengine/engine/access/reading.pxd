"""The state that readers and the writer share, as C sees it."""

from libc.stdint cimport uint64_t

from kvengine.engine.following.digest cimport DigestSum
from kvengine.engine.index.group_sizes cimport GroupSizes
from kvengine.engine.index.key_index cimport (
    ADDRESS_MASK, COLD, DAMAGED, KeyIndex, Table, find, is_unverified, shard_of, table_of,
)
from kvengine.engine.log.record cimport (
    EXPIRES, Header, checksum_is_right, expiry_of, flags_of, size_of, version_of,
)
from kvengine.engine.log.segment cimport CHUNK_BITS, Segment, SegmentTable, offset_of, slot_of

cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>
    #ifndef CLOCK_MONOTONIC_COARSE
    #define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
    #endif
    /* A few nanoseconds; exact to some milliseconds. */
    static inline uint64_t kv_coarse_ms(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    }
    """
    uint64_t coarse_ms "kv_coarse_ms"() noexcept nogil

cdef enum:
    COPY_BYTES_MAX = 65536      # larger values are copied and checked without the GIL

cdef inline bint is_at_hand(
    const Segment *segments, const Header *header, uint64_t address
) noexcept nogil:
    """True if a value above 4 KiB can be had at once: its last byte, too, was seen in memory."""
    cdef uint64_t last = offset_of(address) + size_of(header) - 1
    return (
        header.value_size < COPY_BYTES_MAX
        and segments[slot_of(address)].resident[last >> CHUNK_BITS]
    )

cdef extern from *:
    """
    /* Another process stored the version after the records that it stands for. */
    static inline uint64_t kv_acquire(const uint64_t *place) {
        return __atomic_load_n(place, __ATOMIC_ACQUIRE);
    }
    """
    uint64_t kv_acquire(const uint64_t *place) noexcept nogil

cdef inline const Header *checked_record(
    const Segment *segments, uint64_t address
) noexcept nogil:
    """Return the record at an address if its first checksum is right, else NULL."""
    cdef const Segment *row = &segments[slot_of(address)]
    cdef uint64_t offset = offset_of(address)
    cdef const Header *header = <const Header *>(row.base + offset)
    if size_of(header) > row.end - offset or not checksum_is_right(header, row.salt + offset):
        return NULL
    return header

cdef class Reader:
    cdef KeyIndex index
    cdef SegmentTable segments
    cdef uint64_t seed
    cdef object clock
    cdef bint is_system_clock
    cdef bint verify_always
    cdef object unusable            # None, or the error that every call raises from now on
    cdef const uint64_t *published  # followers: the writer's version in the control page
    cdef public bint looks          # readers also check their folder now and then
    cdef uint64_t next_check_ms     # followers: when to check again that the folder is there
    cdef readonly object control_page        # keeps the page mapped
    cdef uint64_t foreign_changes              # grows with what other processes change; 1 at first
    cdef uint64_t applied           # the newest version that the index knows
    cdef public GroupSizes groups    # None: nothing is counted
    cdef public DigestSum digest_changes     # None: no digest was requested yet
    cdef public uint64_t removals    # deletes, and puts with an expiry, so far

    cdef int begin(self) except -1
    cdef bint try_catch_up(self) noexcept
    cdef double now(self) except? -1
    cdef bint asks_system(self) noexcept
    cdef object damaged(self, uint64_t address)
    cdef uint64_t *locate(self, uint64_t hash, const char *key, uint64_t size) except? NULL
    cdef const Header *current(
        self, uint64_t hash, const char *key, uint64_t size, uint64_t *address,
    ) except? NULL
    cdef bint would_block(self, uint64_t hash, const char *key, uint64_t size) except -1
    cdef const Header *checked(self, uint64_t address) except NULL
    cdef const char *first_guess(self, uint64_t hash) noexcept
    cdef object read_value(self, object key, object default)
    cdef list read_many(self, object keys)
    cdef object read_entry(self, object key)
    cdef object read_view(self, object key)
    cdef bint has_key(self, object key) except -1
    cdef object entry_at(self, bytes name, const Header *header, uint64_t address)
    cdef object value_at(self, const Header *header, uint64_t address)
    cdef object view_at(self, const Header *header, uint64_t address)
    cdef object _large_value(self, const Header *header, uint64_t address)
    cdef int _get_group(self, list names, Py_ssize_t start, Py_ssize_t end, list values) except -1

cdef inline bint is_behind(Reader self) noexcept:
    """True if begin() has something to do."""
    return self.unusable is not None or self.looks or (
        self.published != NULL and kv_acquire(self.published) != self.applied)

cdef inline uint64_t *seek(
    Reader self, uint64_t hash, const char *key, uint64_t size, uint64_t *where
) noexcept:
    """Return the index entry of a key, or NULL; it may have waited for the disk.

    &DAMAGED: the record at `where` is, or, if that is 0, the shard.  &COLD: it can't be read.
    No Python code runs in here.
    """
    cdef uint64_t *entry
    cdef SegmentTable table
    where[0] = 0
    if is_unverified(self.index, hash) and not self.index.shard_is_right(
        <Table *>table_of(self.index, hash), shard_of(table_of(self.index, hash), hash)
    ):
        return &DAMAGED
    entry = find(self.index, hash, key, size, False, where)
    if entry == &COLD:
        table = self.segments  # a follower may get another one meanwhile
        if not table.warm(where[0]):
            return &COLD
        # The world may have changed while the GIL was free; now wait if it must be.
        entry = find(self.index, hash, key, size, True, where)
    return entry

cdef inline uint64_t version_at(
    const Segment *segments, const uint64_t *entry, double moment
) noexcept nogil:
    """Return the version of an entry's record; 0: there is none, or it has expired."""
    cdef const Header *header
    if entry == NULL:
        return 0
    header = <const Header *>(
        segments[slot_of(entry[0] & ADDRESS_MASK)].base + offset_of(entry[0]))
    if flags_of(header) & EXPIRES and expiry_of(header) <= moment:
        return 0
    return version_of(header)
