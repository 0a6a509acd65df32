"""The hash index: for each live key, the address of its newest record, in eight bytes.

    63........43 | 42..40   | 39.................0
    tag          | distance | address                        0: empty

The tag is the top 21 bits of the key's seeded hash.  It selects the shard (shards are in the order
of tags) and rules out most other keys.  The low ten bits of the hash select a bucket, which is one
cache line; an entry that found its bucket full lies `distance` buckets further on.

Invariants:

* An entry with distance d implies that the d buckets before it are full, so a search may stop at
  the first bucket with room.  Deletes move later entries up to keep this true.
* Entries of a bucket are packed: the first empty one ends it.
* A tag match does not prove equality: the key in the record decides.
* A growth needs no keys.  The tag alone selects a shard, and bits that do not change select a
  bucket, so entries are redistributed using only their own bits; inserts do this step by step.
* After reserve_entries() and preserve(), the inserts, replacements and removals of a write can't
  fail, even if steps of a growth, or a snapshot, come in between.
* During a growth, tags below `boundary` are in the new table and the others in the old one.

The number of shards is arbitrary, and a growth adds a quarter: between 0.54 and 0.71 of the entries
are in use, 11.3 to 14.7 bytes of RAM per key, 13 on average.  An insert that finds all eight
buckets of its neighborhood full goes to a short list, the stash, until the next growth.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.log.segment cimport SegmentTable
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
    STASH_STEP = 64
    RELEASE_BYTES = 1 << 21     # the old table is given back in pieces of a huge page


cdef bint try_table(Table *table, uint64_t shards) noexcept:
    """Make an empty table; False: there is no memory."""
    cdef size_t size = shards * SHARD_BYTES
    cdef void *start = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if start == MAP_FAILED:
        return False
    kv_huge_pages(start, size)
    table.entries = <uint64_t *>start
    table.shards = shards
    table.unverified, table.checksums = NULL, NULL
    return True


cdef void drop_table(Table *table) noexcept:
    if table.entries != NULL:
        munmap(table.entries, table.shards * SHARD_BYTES)
    free(table.unverified)
    free(table.checksums)
    memset(table, 0, sizeof(Table))


cdef class KeyIndex:
    """Where the newest record of each key lies.

    Thread-safety: changed and read while holding the GIL.
    """

    def __cinit__(self, SegmentTable segments) -> None:
        self.keeper = segments
        self.segments = segments.rows
        self.boundary = <uint64_t>1 << TAG_BITS
        if not try_table(&self.table, 1):
            raise MemoryError(f"the key index needs {SHARD_BYTES} bytes")

    def __dealloc__(self) -> None:
        self.drop_snapshot()
        drop_table(&self.table)
        drop_table(&self.old)
        free(self.stash)

    # -- entries

    cdef bint have_stash_room(self, uint64_t wanted) noexcept:
        """Have room for so many more entries in the stash; False: there is no memory."""
        cdef uint64_t room = self.stash_room
        cdef Stashed *stash
        wanted += self.stash_count
        if wanted > room:
            room = wanted + STASH_STEP
        elif room > 2 * wanted + STASH_KEPT:  # of a large batch, or of a growth
            room = wanted + STASH_STEP
        else:
            return True
        stash = <Stashed *>realloc(self.stash, room * sizeof(Stashed))
        if stash == NULL:
            return wanted <= self.stash_room
        self.stash, self.stash_room = stash, room
        return True

    cdef int insert(self, uint64_t hash, uint64_t address) except -1:
        """Add a key that is not there yet."""
        self.preserve(hash)
        if is_unverified(self, hash):
            self.verify_shard(<Table *>table_of(self, hash), shard_of(table_of(self, hash), hash))
        if not reserve_entries(self, 1):
            raise MemoryError
        self.insert_reserved(hash, address)
        return 0

    cdef void insert_reserved(self, uint64_t hash, uint64_t address) noexcept:
        """Add a key after reserve_entries() and preserve(); its shard was looked into."""
        if not place(shard_entries(self, hash), hash, tag_of(hash), address):
            self.put_aside(hash, address)
        if self.reserved:
            self.reserved -= 1
        self.count += 1
        self.pay_growth()

    cdef void pay_growth(self) noexcept:
        """Do what one more insert owes to growth."""
        cdef uint64_t entries = self.table.shards * SHARD_ENTRIES
        if self.old.entries != NULL:
            # The new table is filled in time: its shards are spread over this many inserts.
            self.credit += 1
            if self.credit * self.table.shards * 100 >= entries * GROWN_WITHIN_PERCENT:
                self.credit = 0
                # If it fails growth waits, and a damaged shard says so when it is used.
                self.try_step()
        elif self.count * 100 > entries * GROW_AT_PERCENT:
            if self.saved == NULL:
                self.start_growth()
            elif self.count * 100 > entries * GIVE_UP_AT_PERCENT:
                self.drop_snapshot()

    cdef void replace(self, uint64_t *entry, uint64_t hash, uint64_t address) noexcept:
        """Let an entry point to another record of its key; preserve() was called before find()."""
        entry[0] = entry[0] & ~ADDRESS_MASK | address

    cdef void remove(self, uint64_t *entry, uint64_t hash) noexcept:
        """Take out an entry that find() gave; preserve() was called before that."""
        self.count -= 1
        cdef Stashed *stashed = <Stashed *>(<char *>entry - sizeof(uint64_t))
        if self.stash <= stashed < self.stash + self.stash_count:
            self.stash_count -= 1
            stashed[0] = self.stash[self.stash_count]
            return
        cdef uint64_t *shard = shard_entries(self, hash)
        close_gap(shard, <uint64_t>(entry - shard))

    cdef void put_aside(self, uint64_t hash, uint64_t address) noexcept:
        """Keep an entry that found no place; there is room."""
        self.stash[self.stash_count] = Stashed(placing_bits(hash), address)
        self.stash_count += 1

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

    cdef void start_growth(self) noexcept:
        """Make a table with a quarter more shards; inserts move the entries over."""
        cdef Table wider
        if not try_table(&wider, self.table.shards * 5 // 4 + 1):
            return
        self.old = self.table
        self.table = wider
        self.boundary = 0
        self.grown_shards = self.released_bytes = self.credit = 0

    cdef int grow_step(self) except -1:
        """Fill one more shard of the new table."""
        cdef uint64_t source
        if self.try_step():
            return 0
        for source in range(self.old.shards):
            self.verify_shard(&self.old, source)  # says what is wrong with it
        raise MemoryError("the key index can't grow")

    cdef bint try_step(self) noexcept:
        """Fill one more shard of the new table, or change nothing and return False."""
        cdef uint64_t target = self.grown_shards
        cdef uint64_t tags = <uint64_t>1 << TAG_BITS
        cdef uint64_t low = self.boundary
        # The first tag that the next shard would have.
        cdef uint64_t high = (tags * (target + 1) + self.table.shards - 1) // self.table.shards
        cdef uint64_t first = low * self.old.shards >> TAG_BITS
        cdef uint64_t last = (high - 1) * self.old.shards >> TAG_BITS
        cdef uint64_t source
        if not self.have_stash_room(self.reserved + (last - first + 1) * SHARD_ENTRIES):
            return False
        for source in range(first, last + 1):  # all before any: a step is done whole or not at all
            if not self.shard_is_right(&self.old, source):
                return False
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
            self.source = None
        return True

    cdef void deal(
        self, uint64_t source, uint64_t target, uint64_t low, uint64_t high
    ) noexcept:
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

    cdef void take_from_stash(self, uint64_t target, uint64_t low, uint64_t high) noexcept:
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
        cdef MappedFile file
        cdef int code
        if not self.shard_is_right(table, shard):
            if isinstance(self.source, MappedFile):
                file = <MappedFile>self.source
                code = file.load(shard * SHARD_BYTES, SHARD_BYTES)
                if code:
                    raise file.unreadable(code, shard * SHARD_BYTES, SHARD_BYTES)
            raise CorruptData(
                "checksum of the saved index, or an entry (open with rebuild=True to rebuild it)",
                file=self.source.name, offset=shard * SHARD_BYTES,
                expected=table.checksums[shard],
                found=xxh3(table.entries + shard * SHARD_ENTRIES, SHARD_BYTES, shard))
        return 0

    cdef bint shard_is_right(self, Table *table, uint64_t shard) noexcept:
        """True if a shard is what was saved; compared once."""
        if table.unverified != NULL and table.unverified[shard]:
            # Somebody else may have shortened the file.
            if isinstance(self.source, MappedFile) and (<MappedFile>self.source).load(
                shard * SHARD_BYTES, SHARD_BYTES
            ) != 0:
                return False
            if table.checksums[shard] != xxh3(
                table.entries + shard * SHARD_ENTRIES, SHARD_BYTES, shard
            ):
                return False
            if not self.entries_are_right(table, shard):
                return False
            table.unverified[shard] = 0
        return True

    cdef bint entries_are_right(self, Table *table, uint64_t shard) noexcept:
        """True if the entries of a saved shard make sense; SavedIndex looks at them."""
        return True

    cdef int preserve(self, uint64_t hash) except -1:
        """Copy a shard that is about to change, if a snapshot still needs it as it is.

        Raises:
            CorruptData: the shard is damaged.
        """
        if self.saved != NULL and not self.try_preserve(hash):
            self.verify_shard(&self.table, shard_of(&self.table, hash))
            raise MemoryError
        return 0

    cdef bint try_preserve(self, uint64_t hash) noexcept:
        """The same; False if that can't be done."""
        cdef uint64_t shard
        cdef uint64_t *copy
        if self.saved == NULL:
            return True
        shard = shard_of(&self.table, hash)
        if self.saved[shard]:
            return True
        if not self.shard_is_right(&self.table, shard):
            return False
        copy = <uint64_t *>malloc(SHARD_BYTES)
        if copy == NULL:
            return False
        memcpy(copy, self.table.entries + shard * SHARD_ENTRIES, SHARD_BYTES)
        self.copies[shard] = copy
        self.saved[shard] = 1
        return True

    cdef void drop_snapshot(self) noexcept:
        cdef uint64_t shard
        if self.saved != NULL:
            for shard in range(self.table.shards):
                free(self.copies[shard])
            free(self.copies)
            free(self.saved)
        self.saved, self.copies = NULL, NULL


def hash_of(key: bytes, seed: int) -> int:
    """Return the hash by which a store with this seed finds the key."""
    cdef const char *start = key
    return xxh3(start, <size_t>len(key), <uint64_t>seed)
