"""The key index as C sees it: lookups are inlined into their callers."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp

from kvengine.engine.log.record cimport HEADER_BYTES, Header, flags_of, is_whole, key_of, key_offset
from kvengine.engine.log.segment cimport (
    CHUNK_BITS, SEGMENT_HEADER_BYTES, Segment, offset_of, slot_of,
)

cdef extern from *:
    """
    #define kv_lowest_bit(bits) __builtin_ctz(bits)
    #define kv_prefetch(address) __builtin_prefetch((address), 0, 3)
    """
    int kv_lowest_bit(unsigned int bits) noexcept nogil
    void kv_prefetch(const void *address) noexcept nogil

cdef enum:
    ADDRESS_BITS = 40
    DISTANCE_BITS = 3
    TAG_BITS = 21
    TAG_SHIFT = 43              # the tag is the top 21 bits of the hash
    BUCKET_ENTRIES = 8          # one cache line
    DISTANCE_MAX = 8            # an entry lies at most 7 buckets after its own
    SHARD_BUCKETS = 1024
    SHARD_ENTRIES = 8192
    SHARD_BYTES = 65536
    STASH_KEPT = 8192           # entries of room that are not given back

cdef uint64_t ADDRESS_MASK
cdef uint64_t COLD              # find() points here when a record is not in memory,
cdef uint64_t DAMAGED           # and here when there is no record of a key with this hash

cdef struct Table:
    uint64_t *entries
    uint64_t shards
    uint8_t *unverified         # per shard: 1 until its checksum was compared; NULL: all are good
    uint64_t *checksums         # per shard, of a table that has `unverified`

cdef struct Stashed:
    uint64_t hash
    uint64_t address

cdef class KeyIndex:
    cdef Table table            # of the tags below `boundary`
    cdef Table old              # of the others, while a growth is under way
    cdef uint64_t boundary
    cdef uint64_t grown_shards  # of `table`, filled from `old` so far
    cdef uint64_t released_bytes
    cdef uint64_t credit        # inserts since the last step of a growth
    cdef readonly uint64_t count
    cdef Stashed *stash         # entries whose neighborhood was full
    cdef uint64_t stash_count, stash_room
    cdef uint64_t reserved      # inserts that are sure of room in the stash
    cdef Segment *segments
    cdef object keeper          # the SegmentTable that owns `segments`
    cdef object source          # the file under a mapped table
    cdef readonly uint64_t seed         # of the hash
    cdef uint8_t *saved         # while a snapshot is taken: 1 for each shard already copied
    cdef uint64_t **copies      # then: shards copied before they changed, or NULL

    cdef bint have_stash_room(self, uint64_t wanted) noexcept
    cdef int insert(self, uint64_t hash, uint64_t address) except -1
    cdef void insert_reserved(self, uint64_t hash, uint64_t address) noexcept
    cdef void remove(self, uint64_t *entry, uint64_t hash) noexcept
    cdef void replace(self, uint64_t *entry, uint64_t hash, uint64_t address) noexcept
    cdef uint64_t *find_address(self, uint64_t hash, uint64_t address) except? NULL
    cdef void pay_growth(self) noexcept
    cdef int grow_step(self) except -1
    cdef bint try_step(self) noexcept
    cdef void start_growth(self) noexcept
    cdef int finish_growth(self) except -1
    cdef int verify_shard(self, Table *table, uint64_t shard) except -1
    cdef bint shard_is_right(self, Table *table, uint64_t shard) noexcept
    cdef bint entries_are_right(self, Table *table, uint64_t shard) noexcept
    cdef int preserve(self, uint64_t hash) except -1
    cdef bint try_preserve(self, uint64_t hash) noexcept
    cdef void drop_snapshot(self) noexcept
    cdef void put_aside(self, uint64_t hash, uint64_t address) noexcept
    cdef void deal(self, uint64_t source, uint64_t target, uint64_t low, uint64_t high) noexcept
    cdef void take_from_stash(self, uint64_t target, uint64_t low, uint64_t high) noexcept

cdef void drop_table(Table *table) noexcept

cdef inline uint64_t tag_of(uint64_t hash) noexcept nogil:
    return hash >> TAG_SHIFT

cdef inline const Table *table_of(KeyIndex index, uint64_t hash) noexcept nogil:
    return &index.table if tag_of(hash) < index.boundary else &index.old

cdef inline uint64_t shard_of(const Table *table, uint64_t hash) noexcept nogil:
    return tag_of(hash) * table.shards >> TAG_BITS

cdef inline uint64_t *shard_entries(KeyIndex index, uint64_t hash) noexcept nogil:
    cdef const Table *table = table_of(index, hash)
    return table.entries + shard_of(table, hash) * SHARD_ENTRIES

cdef inline uint64_t *home_line(KeyIndex index, uint64_t hash) noexcept nogil:
    return shard_entries(index, hash) + (hash & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES

cdef inline const Header *record_at(const Segment *segments, uint64_t address) noexcept nogil:
    return <const Header *>(segments[slot_of(address)].base + offset_of(address))

cdef inline bint is_warm(const Segment *segments, uint64_t address) noexcept nogil:
    """True if the chunk in which the record begins was seen in memory lately."""
    return segments[slot_of(address)].resident[offset_of(address) >> CHUNK_BITS]

cdef inline bint is_unverified(KeyIndex index, uint64_t hash) noexcept nogil:
    """True if the hash belongs to a saved shard that was not compared with its checksum yet."""
    cdef const Table *table = table_of(index, hash)
    return table.unverified != NULL and table.unverified[shard_of(table, hash)]

cdef inline bint points_to_record(const Segment *segments, uint64_t address) noexcept nogil:
    """True if a record may begin at an address: it is in a segment that is there, and in use."""
    return offset_of(address) + HEADER_BYTES <= segments[slot_of(address)].end

cdef inline bint holds_key(
    const Segment *segments, uint64_t address, const char *key, uint64_t size
) noexcept nogil:
    """True if the record, which is there, is that of the key."""
    cdef const Header *header = record_at(segments, address)
    return (
        header.key_size == size
        and offset_of(address) + key_offset(flags_of(header)) + size
        <= segments[slot_of(address)].end
        and memcmp(key_of(header), key, size) == 0
    )

cdef inline uint64_t placing_bits(uint64_t hash) noexcept nogil:
    """The bits of a hash that the index keeps: tag and bucket."""
    return hash & (~<uint64_t>0 << TAG_SHIFT | (SHARD_BUCKETS - 1))

cdef inline bint is_stranger(
    const Segment *segments, uint64_t address, uint64_t hash, uint64_t seed
) noexcept nogil:
    """True if the record (not counting a large value) is what was written, and belongs here.

    That is to say, its key has the bits of the hash by which its entry was placed.
    """
    cdef const Segment *row = &segments[slot_of(address)]
    cdef uint64_t found
    return is_whole(row.base, offset_of(address), row.end, row.salt, seed, &found) and (
        placing_bits(found) == placing_bits(hash))

cdef inline unsigned int matches_in(const uint64_t *line, uint64_t wanted) noexcept nogil:
    """Return a bit for each entry of a bucket with the wanted tag and distance.

    All eight are compared, whatever they hold: a branch for each would be guessed wrong often.
    """
    return (
        (line[0] >> ADDRESS_BITS == wanted)
        | (line[1] >> ADDRESS_BITS == wanted) << 1
        | (line[2] >> ADDRESS_BITS == wanted) << 2
        | (line[3] >> ADDRESS_BITS == wanted) << 3
        | (line[4] >> ADDRESS_BITS == wanted) << 4
        | (line[5] >> ADDRESS_BITS == wanted) << 5
        | (line[6] >> ADDRESS_BITS == wanted) << 6
        | (line[7] >> ADDRESS_BITS == wanted) << 7
    )

cdef inline uint64_t *find_stashed(
    KeyIndex index, uint64_t hash, const char *key, uint64_t size, bint cold, uint64_t *where
) noexcept nogil:
    """Look for a key among the entries that found no place; a pointer to its address."""
    cdef uint64_t i
    for i in range(index.stash_count):
        if index.stash[i].hash == placing_bits(hash):
            where[0] = index.stash[i].address
            if not points_to_record(index.segments, where[0]):
                return &DAMAGED
            if not cold and not is_warm(index.segments, where[0]):
                return &COLD
            if holds_key(index.segments, where[0], key, size):
                return &index.stash[i].address
            if not is_stranger(index.segments, where[0], hash, index.seed):
                return &DAMAGED
    return NULL

cdef inline uint64_t *find(
    KeyIndex index, uint64_t hash, const char *key, uint64_t size, bint cold, uint64_t *where
) noexcept nogil:
    """Return the entry of a key, NULL if it has none, or &COLD or &DAMAGED.

    Those two leave the address of the record in `where`.  With `cold`, records are read even
    if that means waiting for the disk.  A record with the right tag and another key is checked
    before it counts as a stranger: neither a flipped bit in a key nor an entry that was never
    its own may hide it.
    """
    cdef uint64_t *shard = shard_entries(index, hash)
    cdef uint64_t *line
    cdef uint64_t wanted = tag_of(hash) << DISTANCE_BITS
    cdef uint64_t bucket = hash & (SHARD_BUCKETS - 1)
    cdef uint64_t address
    cdef unsigned int matches
    cdef int distance, i
    for distance in range(DISTANCE_MAX):
        line = shard + ((bucket + distance) & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES
        matches = matches_in(line, wanted + distance)
        while matches:
            i = kv_lowest_bit(matches)
            matches &= matches - 1
            address = line[i] & ADDRESS_MASK
            if address == 0:
                continue
            if not points_to_record(index.segments, address):
                where[0] = address
                return &DAMAGED
            if not cold and not is_warm(index.segments, address):
                where[0] = address
                return &COLD
            if holds_key(index.segments, address, key, size):
                return &line[i]
            if not is_stranger(index.segments, address, hash, index.seed):
                where[0] = address
                return &DAMAGED
        if line[BUCKET_ENTRIES - 1] == 0:
            break
    if index.stash_count:
        return find_stashed(index, hash, key, size, cold, where)
    return NULL

cdef inline bint place(
    uint64_t *shard, uint64_t hash_low, uint64_t tag, uint64_t address
) noexcept nogil:
    """Put an entry into the first bucket with room; False if the neighborhood is full."""
    cdef uint64_t bucket = hash_low & (SHARD_BUCKETS - 1)
    cdef uint64_t *line
    cdef int distance, i
    for distance in range(DISTANCE_MAX):
        line = shard + ((bucket + distance) & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES
        if line[BUCKET_ENTRIES - 1] == 0:
            for i in range(BUCKET_ENTRIES):
                if line[i] == 0:
                    line[i] = (tag << DISTANCE_BITS | <uint64_t>distance) << ADDRESS_BITS | address
                    return True
    return False

cdef inline uint64_t move_up(uint64_t *shard, uint64_t gap) noexcept nogil:
    """Fill a gap; return the one that this leaves, SHARD_ENTRIES if none."""
    cdef uint64_t bucket = gap // BUCKET_ENTRIES
    cdef uint64_t *line = shard + bucket * BUCKET_ENTRIES
    cdef uint64_t *other
    cdef bint was_full = line[BUCKET_ENTRIES - 1] != 0
    cdef int distance, i, last = BUCKET_ENTRIES - 1
    while line[last] == 0:
        last -= 1
    shard[gap] = line[last]
    line[last] = 0
    if not was_full:
        return SHARD_ENTRIES
    # The bucket had turned entries away; the nearest one that may come back does.
    for distance in range(1, DISTANCE_MAX):
        other = shard + ((bucket + distance) & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES
        for i in range(BUCKET_ENTRIES):
            if other[i] and other[i] >> ADDRESS_BITS & (DISTANCE_MAX - 1) >= <uint64_t>distance:
                line[BUCKET_ENTRIES - 1] = other[i] - (<uint64_t>distance << ADDRESS_BITS)
                return <uint64_t>(&other[i] - shard)
        if other[BUCKET_ENTRIES - 1] == 0:
            break
    return SHARD_ENTRIES

cdef inline void close_gap(uint64_t *shard, uint64_t gap) noexcept nogil:
    """Empty an entry, then move up what may lie closer to its own bucket now."""
    while gap < SHARD_ENTRIES:
        gap = move_up(shard, gap)

cdef inline int64_t first_bad_entry(
    const Table *table, uint64_t shard, const Segment *segments, const uint8_t *gone,
    int64_t *count,
) noexcept nogil:
    """Return the place of the first entry of a shard that makes no sense, -1 if all do."""
    cdef const uint64_t *entries = table.entries + shard * SHARD_ENTRIES
    cdef const uint64_t *line
    cdef uint64_t bucket, i, address, distance
    for bucket in range(<uint64_t>SHARD_BUCKETS):
        line, i = entries + bucket * BUCKET_ENTRIES, 0
        while i < BUCKET_ENTRIES and line[i]:
            address = line[i] & ((1ULL << ADDRESS_BITS) - 1)
            if shard_of(table, line[i]) != shard or offset_of(address) < SEGMENT_HEADER_BYTES:
                return bucket * BUCKET_ENTRIES + i
            if not points_to_record(segments, address) and (
                gone == NULL or not gone[slot_of(address)]
            ):
                return bucket * BUCKET_ENTRIES + i
            distance = line[i] >> ADDRESS_BITS & (DISTANCE_MAX - 1)
            while distance:  # a bucket turned the entry away, so it is full
                if entries[(bucket - distance & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES
                           + BUCKET_ENTRIES - 1] == 0:
                    return bucket * BUCKET_ENTRIES + i
                distance -= 1
            i += 1
        count[0] += i
        while i < BUCKET_ENTRIES:
            if line[i]:
                return bucket * BUCKET_ENTRIES + i
            i += 1
    return -1

cdef inline bint reserve_entries(KeyIndex index, uint64_t inserts) noexcept:
    """Have room for so many inserts, wherever they go; False: there is no memory."""
    cdef uint64_t free = index.stash_room - index.stash_count
    index.reserved = inserts
    return inserts <= free <= inserts + STASH_KEPT or index.have_stash_room(inserts)
