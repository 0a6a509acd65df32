"""The hash index: for each living key, the address of its newest record, in eight bytes.

    63........43 | 42..40   | 39.................0
    tag          | distance | address                        0: empty

The tag is the top 21 bits of the key's seeded hash; it picks the shard (shards lie in the order
of tags) and tells most strangers from the key.  The low ten bits of the hash pick a bucket, which
is one cache line; an entry that found its bucket full lies `distance` buckets further on.

Invariants:

* An entry with distance d implies that the d buckets before it are full, so a search may stop at
  the first bucket with room.  Deletes move later entries up to keep this true.
* Entries of a bucket are packed: the first empty one ends it.
* A tag match is never taken for equality: the key in the record decides.
* A growth needs no keys.  A shard is picked by the tag alone and a bucket by bits that do not
  change, so entries are dealt out again from what they hold; a step at a time, paid by inserts.
* During a growth, tags below `boundary` are in the new table and the others in the old one.

The number of shards is arbitrary, and a growth adds a quarter: between 0.54 and 0.71 of the entries
are in use, 11.3 to 14.7 bytes of RAM a key, 13 on average.  An insert that finds all eight buckets
of its neighborhood full goes to a short list, the stash, until the next growth.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from kvengine.engine.hash cimport xxh3
from kvengine.engine.segment cimport SegmentTable
from kvengine.file.mapped cimport MappedFile

from kvengine.errors import CorruptData

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE
    int MADV_DONTNEED
    void *MAP_FAILED
    void *mmap(void *address, size_t size, int protection, int flags, int fd, int64_t offset)
    int munmap(void *address, size_t size)
    int madvise(void *address, size_t size, int advice)

cdef extern from *:
    """
    #include <sys/mman.h>
    static void kv_huge_pages(void *start, size_t size) {
    #ifdef MADV_HUGEPAGE
        if (size >= 4u << 20) madvise(start, size, MADV_HUGEPAGE);
    #endif
    }
    """
    void kv_huge_pages(void *start, size_t size) nogil

cdef uint64_t ADDRESS_MASK = (<uint64_t>1 << 40) - 1
cdef uint64_t COLD = 0
cdef uint64_t DAMAGED = 0

cdef enum:
    GROW_AT_PERCENT = 68        # of the entries in use: start a growth
    GIVE_UP_AT_PERCENT = 75     # of the entries: a snapshot must make way for growth
    GROWN_WITHIN_PERCENT = 4    # of the entries: a growth is over after this many inserts
    RELEASE_BYTES = 1 << 21     # the old table is given back in pieces of a huge page


cdef int make_table(Table *table, uint64_t shards) except -1:
    cdef size_t size = shards * SHARD_BYTES
    cdef void *start = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if start == MAP_FAILED:
        raise MemoryError(f"the key index needs {size} bytes")
    kv_huge_pages(start, size)
    table.entries = <uint64_t *>start
    table.shards = shards
    table.unverified = NULL
    return 0


cdef void drop_table(Table *table) noexcept:
    if table.entries != NULL:
        munmap(table.entries, table.shards * SHARD_BYTES)
    free(table.unverified)
    memset(table, 0, sizeof(Table))


cdef uint64_t *find_stashed(
    KeyIndex index, uint64_t hash, const char *key, uint64_t size, bint cold, uint64_t *where
) noexcept nogil:
    """Look for a key among the entries that found no place; a pointer to its address."""
    cdef uint64_t i
    for i in range(index.stash_count):
        if index.stash[i].hash == placing_bits(hash):
            where[0] = index.stash[i].address
            if not cold and not is_warm(index.segments, where[0]):
                return &COLD
            if holds_key(index.segments, where[0], key, size):
                return &index.stash[i].address
            if not is_intact(index.segments, where[0]):
                return &DAMAGED
    return NULL


cdef bint place(uint64_t *shard, uint64_t hash_low, uint64_t tag, uint64_t address) noexcept nogil:
    """Put an entry into the first bucket with room; False if the neighborhood is full."""
    cdef uint64_t bucket = hash_low & (SHARD_BUCKETS - 1)
    cdef uint64_t *line
    cdef uint64_t distance
    cdef int i
    for distance in range(DISTANCE_MAX):
        line = shard + ((bucket + distance) & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES
        if line[BUCKET_ENTRIES - 1] == 0:
            for i in range(BUCKET_ENTRIES):
                if line[i] == 0:
                    line[i] = (tag << DISTANCE_BITS | distance) << ADDRESS_BITS | address
                    return True
    return False


cdef class KeyIndex:
    """Where the newest record of each key lies.

    Thread-safety: changed and read while holding the GIL.
    """

    def __cinit__(self, SegmentTable segments) -> None:
        self.keeper = segments
        self.segments = segments.rows
        self.boundary = <uint64_t>1 << TAG_BITS
        make_table(&self.table, 1)

    def __dealloc__(self) -> None:
        drop_table(&self.table)
        drop_table(&self.old)
        free(self.stash)
        free(self.saved)

    # -- entries

    cdef int insert(self, uint64_t hash, uint64_t address) except -1:
        """Add a key that is not there yet."""
        self.preserve(hash)
        if is_unverified(self, hash):
            self.verify_shard(<Table *>table_of(self, hash), shard_of(table_of(self, hash), hash))
        if not place(shard_entries(self, hash), hash, tag_of(hash), address):
            self.put_aside(hash, address)
        self.count += 1
        try:
            self.pay_growth()
        except (CorruptData, MemoryError):
            # The log has the record already: growth waits, and a damaged shard says so when used.
            self.credit = 0
        return 0

    cdef int pay_growth(self) except -1:
        """Do what one more insert owes to growth."""
        cdef uint64_t entries = self.table.shards * SHARD_ENTRIES
        if self.old.entries != NULL:
            # The new table is filled in time: its shards are spread over this many inserts.
            self.credit += 1
            if self.credit * self.table.shards * 100 >= entries * GROWN_WITHIN_PERCENT:
                self.credit = 0
                self.grow_step()
        elif self.count * 100 > entries * GROW_AT_PERCENT:
            if self.saved == NULL:
                self.start_growth()
            elif self.count * 100 > entries * GIVE_UP_AT_PERCENT:
                self.end_snapshot()
        return 0

    cdef int replace(self, uint64_t *entry, uint64_t hash, uint64_t address) except -1:
        """Let an entry that find() gave point to another record of its key."""
        self.preserve(hash)
        entry[0] = entry[0] & ~ADDRESS_MASK | address
        return 0

    cdef int remove(self, uint64_t *entry, uint64_t hash) except -1:
        """Take out an entry that find() gave."""
        self.preserve(hash)
        self.count -= 1
        cdef Stashed *stashed = <Stashed *>(<char *>entry - sizeof(uint64_t))
        if self.stash <= stashed < self.stash + self.stash_count:
            self.stash_count -= 1
            stashed[0] = self.stash[self.stash_count]
            return 0
        cdef uint64_t *shard = shard_entries(self, hash)
        close_gap(shard, <uint64_t>(entry - shard))
        return 0

    cdef int put_aside(self, uint64_t hash, uint64_t address) except -1:
        cdef Stashed *stash
        if self.stash_count == self.stash_room:
            stash = <Stashed *>realloc(self.stash, (self.stash_room + 64) * sizeof(Stashed))
            if stash == NULL:
                raise MemoryError
            self.stash = stash
            self.stash_room += 64
        self.stash[self.stash_count] = Stashed(placing_bits(hash), address)
        self.stash_count += 1
        return 0

    cdef uint64_t *find_address(self, uint64_t hash, uint64_t address) except? NULL:
        """Return the entry that points to this very record, or NULL."""
        if is_unverified(self, hash):
            self.verify_shard(<Table *>table_of(self, hash), shard_of(table_of(self, hash), hash))
        cdef uint64_t *shard = shard_entries(self, hash)
        cdef uint64_t bucket = hash & (SHARD_BUCKETS - 1)
        cdef uint64_t wanted = tag_of(hash) << DISTANCE_BITS
        cdef uint64_t *line
        cdef uint64_t distance, i
        for distance in range(DISTANCE_MAX):
            line = shard + ((bucket + distance) & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES
            for i in range(BUCKET_ENTRIES):
                if line[i] == ((wanted + distance) << ADDRESS_BITS | address):
                    return &line[i]
            if line[BUCKET_ENTRIES - 1] == 0:
                break
        for i in range(self.stash_count):
            if self.stash[i].hash == placing_bits(hash) and self.stash[i].address == address:
                return &self.stash[i].address
        return NULL

    # -- growth

    cdef int start_growth(self) except -1:
        """Make a table with a quarter more shards; inserts move the entries over."""
        cdef Table wider
        make_table(&wider, self.table.shards * 5 // 4 + 1)
        self.old = self.table
        self.table = wider
        self.boundary = 0
        self.grown_shards = self.released_bytes = self.credit = 0
        return 0

    cdef int grow_step(self) except -1:
        """Fill one more shard of the new table."""
        cdef uint64_t target = self.grown_shards
        cdef uint64_t tags = <uint64_t>1 << TAG_BITS
        cdef uint64_t low = self.boundary
        # The first tag that the next shard would have.
        cdef uint64_t high = (tags * (target + 1) + self.table.shards - 1) // self.table.shards
        cdef uint64_t first = low * self.old.shards >> TAG_BITS
        cdef uint64_t last = (high - 1) * self.old.shards >> TAG_BITS
        cdef uint64_t source
        for source in range(first, last + 1):  # all before any: a step is done whole or not at all
            self.verify_shard(&self.old, source)
        for source in range(first, last + 1):
            self.deal(source, target, low, high)
        self.take_from_stash(target, low, high)
        self.grown_shards += 1
        self.boundary = high
        cdef uint64_t done = (high * self.old.shards >> TAG_BITS) * SHARD_BYTES
        done -= done % RELEASE_BYTES
        if done > self.released_bytes:
            madvise(<char *>self.old.entries + self.released_bytes, done - self.released_bytes,
                    MADV_DONTNEED)
            self.released_bytes = done
        if self.grown_shards == self.table.shards:
            drop_table(&self.old)
            self.source = self.checksums = None
        return 0

    cdef int deal(self, uint64_t source, uint64_t target, uint64_t low, uint64_t high) except -1:
        """Move the entries of an old shard with tags in [low, high) to a new one."""
        cdef uint64_t *from_shard = self.old.entries + source * SHARD_ENTRIES
        cdef uint64_t *to_shard = self.table.entries + target * SHARD_ENTRIES
        cdef uint64_t bucket, i, entry, tag, home
        for bucket in range(SHARD_BUCKETS):
            for i in range(BUCKET_ENTRIES):
                entry = from_shard[bucket * BUCKET_ENTRIES + i]
                if entry == 0:
                    break
                tag = entry >> TAG_SHIFT
                if low <= tag < high:
                    home = bucket - (entry >> ADDRESS_BITS & (DISTANCE_MAX - 1))
                    if not place(to_shard, home, tag, entry & ADDRESS_MASK):
                        self.put_aside(
                            tag << TAG_SHIFT | home & (SHARD_BUCKETS - 1), entry & ADDRESS_MASK)
        return 0

    cdef int take_from_stash(self, uint64_t target, uint64_t low, uint64_t high) except -1:
        cdef uint64_t *shard = self.table.entries + target * SHARD_ENTRIES
        cdef uint64_t i = 0
        while i < self.stash_count:
            if low <= tag_of(self.stash[i].hash) < high and place(
                shard, self.stash[i].hash, tag_of(self.stash[i].hash), self.stash[i].address
            ):
                self.stash_count -= 1
                self.stash[i] = self.stash[self.stash_count]
            else:
                i += 1
        return 0

    cdef int finish_growth(self) except -1:
        """Do the rest of a growth at once."""
        while self.old.entries != NULL:
            self.grow_step()
        return 0

    def settle(self) -> bool:
        """Do a few more steps of a growth; True when none is under way."""
        cdef int _
        for _ in range(8):
            if self.old.entries != NULL:
                self.grow_step()
        return self.old.entries == NULL

    # -- what a saved index needs of every change

    cdef int verify_shard(self, Table *table, uint64_t shard) except -1:
        """Compare a shard of a saved table with its checksum.

        Raises:
            CorruptData: the saved index is damaged; the log can rebuild it.
        """
        if table.unverified == NULL or not table.unverified[shard]:
            return 0
        cdef MappedFile file
        cdef int code
        if isinstance(self.source, MappedFile):  # it may have been shortened by somebody else
            file = <MappedFile>self.source
            code = file.load(shard * SHARD_BYTES, SHARD_BYTES)
            if code:
                raise file.unreadable(code, shard * SHARD_BYTES, SHARD_BYTES)
        cdef uint64_t found = xxh3(
            table.entries + shard * SHARD_ENTRIES, SHARD_BYTES, shard)
        if found != <uint64_t>self.checksums[shard]:
            raise CorruptData(
                "checksum of the saved index (open with rebuild=True to make it again)",
                file=self.source.name, offset=shard * SHARD_BYTES,
                expected=self.checksums[shard], found=found)
        table.unverified[shard] = 0
        return 0

    cdef int preserve(self, uint64_t hash) except -1:
        """Copy a shard that is about to change, if a snapshot still needs it as it is."""
        cdef uint64_t shard
        cdef char *piece
        if self.saved != NULL:
            shard = shard_of(&self.table, hash)
            if not self.saved[shard]:
                self.verify_shard(&self.table, shard)
                piece = <char *>(self.table.entries + shard * SHARD_ENTRIES)
                self.copies[shard] = piece[:SHARD_BYTES]
                self.saved[shard] = 1
        return 0

    def end_snapshot(self) -> None:
        """Let the index change freely again."""
        free(self.saved)
        self.saved = NULL
        self.copies = None

    def memory_bytes(self) -> int:
        """Return the bytes of RAM that the tables take."""
        return (
            (self.table.shards + self.old.shards) * SHARD_BYTES - self.released_bytes * (
                self.old.entries != NULL) + self.stash_room * sizeof(Stashed))


cdef void close_gap(uint64_t *shard, uint64_t gap) noexcept nogil:
    """Empty an entry, then move up what may lie closer to its own bucket now."""
    cdef uint64_t bucket = gap // BUCKET_ENTRIES
    cdef uint64_t *line = shard + bucket * BUCKET_ENTRIES
    cdef uint64_t *other
    cdef bint was_full = line[BUCKET_ENTRIES - 1] != 0
    cdef uint64_t distance
    cdef int i, last = BUCKET_ENTRIES - 1
    while line[last] == 0:
        last -= 1
    shard[gap] = line[last]
    line[last] = 0
    if not was_full:
        return
    # The bucket had turned entries away; the nearest one that may come back does.
    for distance in range(1, DISTANCE_MAX):
        other = shard + ((bucket + distance) & (SHARD_BUCKETS - 1)) * BUCKET_ENTRIES
        for i in range(BUCKET_ENTRIES):
            if other[i] and other[i] >> ADDRESS_BITS & (DISTANCE_MAX - 1) >= distance:
                line[BUCKET_ENTRIES - 1] = other[i] - (distance << ADDRESS_BITS)
                close_gap(shard, <uint64_t>(&other[i] - shard))
                return
        if other[BUCKET_ENTRIES - 1] == 0:
            return


def hash_of(key: bytes, seed: int) -> int:
    """Return the hash by which a store with this seed finds the key."""
    cdef const char *start = key
    return xxh3(start, <size_t>len(key), <uint64_t>seed)
