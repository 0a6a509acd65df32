"""Saving and loading the key index: mapped tables, snapshots, and what recovery needs.

Invariants:

* A mapped table is copy-on-write: nothing is ever written back.  Before its first use, a shard is
  compared with its checksum, and its entries are checked: each must lie where a search would find
  it, and point into an existing segment.
* A snapshot is the index at one moment; shards are copied before they change.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.key_index cimport (
    ADDRESS_BITS, ADDRESS_MASK, BUCKET_ENTRIES, DISTANCE_MAX, SHARD_BUCKETS, SHARD_BYTES,
    SHARD_ENTRIES, TAG_SHIFT, KeyIndex, Stashed, Table, close_gap, drop_table, first_bad_entry,
    placing_bits, points_to_record,
)
from kvengine.engine.log.record cimport Header, check, key_of
from kvengine.engine.log.segment cimport SEGMENT_HEADER_BYTES, Segment, offset_of, slot_of

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_PRIVATE
    void *MAP_FAILED
    void *mmap(void *address, size_t size, int protection, int flags, int fd, int64_t offset)
    int munmap(void *address, size_t size)


cdef class SavedIndex(KeyIndex):
    """A KeyIndex that can come from a file and go to one.

    Thread-safety: as KeyIndex.
    """

    cdef uint64_t unverified_shards     # of the mapped table: how many are left,
    cdef int64_t uncounted      # and how many entries must be in them
    cdef const uint8_t *gone    # during a purge: 1 for each slot whose segment is not there

    def adopt(self, fd: int, source: object, shards: int, checksums: object, count: int) -> None:
        """Use the table at the start of an open file, copy on write, checked as it is used."""
        cdef Table table
        cdef size_t size = <size_t>shards * SHARD_BYTES
        cdef void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0)
        if start == MAP_FAILED:
            raise MemoryError(f"the key index needs {size} bytes of address space")
        table.entries = <uint64_t *>start
        table.shards = shards
        table.unverified = <uint8_t *>malloc(shards)
        if table.unverified == NULL:
            munmap(start, size)
            raise MemoryError
        memset(table.unverified, 1, shards)
        table.checksums = <uint64_t *>malloc(shards * sizeof(uint64_t))
        if table.checksums == NULL:
            free(table.unverified)
            munmap(start, size)
            raise MemoryError
        for shard in range(shards):
            table.checksums[<uint64_t>shard] = checksums[shard]
        drop_table(&self.table)
        self.table = table
        self.source, self.count = source, count
        self.unverified_shards, self.uncounted = shards, count

    cdef bint entries_are_right(self, Table *table, uint64_t shard) noexcept:
        """True if each entry lies where it is looked for and points to where a record may be.

        The last shard is right if there are as many entries as there should be.  What they point to
        is compared with the key whenever it is read.
        """
        cdef int64_t entries = 0
        if first_bad_entry(table, shard, self.segments, self.gone, &entries) >= 0:
            return False
        if self.unverified_shards == 1 and self.uncounted != entries:
            return False
        self.unverified_shards -= 1
        self.uncounted -= entries
        return True

    def purge(self, gone: list[int]) -> int:
        """Drop all entries that point into the slots in `gone`; return how many there were."""
        cdef uint8_t *is_gone = <uint8_t *>malloc(65536)
        cdef uint64_t shard, i, now, dropped = 0
        if is_gone == NULL:
            raise MemoryError
        try:
            memset(is_gone, 0, 65536)
            for i in gone:
                is_gone[i] = 1
            self.finish_growth()
            self.gone = is_gone
            for shard in range(self.table.shards):
                self.verify_shard(&self.table, shard)
                now = 1
                while now:  # closing gaps moves entries to places already passed
                    now = purge_shard(self.table.entries + shard * SHARD_ENTRIES, is_gone)
                    dropped += now
            i = 0
            while i < self.stash_count:
                if is_gone[slot_of(self.stash[i].address)]:
                    self.stash_count -= 1
                    self.stash[i] = self.stash[self.stash_count]
                    dropped += 1
                else:
                    i += 1
        finally:
            self.gone = NULL
            free(is_gone)
        self.count -= dropped
        return dropped

    # -- snapshots, for the saved index

    def begin_snapshot(self) -> int:
        """Freeze what snapshot() will read; return the number of shards, or 0: try again later.

        One that was begun before is over: its caller was interrupted.
        """
        self.end_snapshot()
        if self.old.entries != NULL:
            return 0
        cdef uint8_t *saved = <uint8_t *>calloc(self.table.shards, 1)
        cdef uint64_t **copies = <uint64_t **>calloc(self.table.shards, sizeof(uint64_t *))
        if saved == NULL or copies == NULL:
            free(saved)
            free(copies)
            raise MemoryError
        self.saved, self.copies = saved, copies
        return self.table.shards

    def snapshot(self, shard: int) -> bytes | None:
        """Return a shard as it was when the snapshot began; None if that had to be given up."""
        cdef uint64_t index = shard
        if self.saved == NULL:
            return None
        if not self.saved[index]:
            self.verify_shard(&self.table, index)
            piece = (<char *>(self.table.entries + index * SHARD_ENTRIES))[:SHARD_BYTES]
            self.saved[index] = 1
            return piece
        if self.copies[index] == NULL:
            raise KeyError(shard)  # it was given out
        piece = (<char *>self.copies[index])[:SHARD_BYTES]
        free(self.copies[index])
        self.copies[index] = NULL
        return piece

    def end_snapshot(self) -> None:
        """Let the index change freely again."""
        self.drop_snapshot()

    def stashed(self) -> list[tuple[int, int]]:
        """Return (hash, address) of the entries that found no place."""
        cdef uint64_t i
        return [(self.stash[i].hash, self.stash[i].address) for i in range(self.stash_count)]

    def restore_stash(self, entries: list[tuple[int, int]]) -> None:
        """Take back what stashed() gave; adopt() has counted these entries already."""
        if not self.have_stash_room(len(entries)):
            raise MemoryError
        for hash, address in entries:
            self.put_aside(hash, address)
        self.uncounted -= self.stash_count

    def fits_seed(self) -> bool:
        """False if keys are hashed in another way than when the index was saved.

        The first record that is whole tells.  A shard that is damaged is no sign of that: its keys
        are refused when they are asked for.
        """
        cdef uint64_t i, address, offset
        cdef const Segment *row
        for i in range(SHARD_ENTRIES):
            address = self.table.entries[i] & ADDRESS_MASK
            if address == 0 or not points_to_record(self.segments, address):
                continue
            row, offset = &self.segments[slot_of(address)], offset_of(address)
            if check(row.base + offset, row.end - offset, row.salt + offset, False) > 0:
                return self._fits(i, <const Header *>(row.base + offset)) or (
                    not self.shard_is_right(&self.table, 0))
        return True

    cdef bint _fits(self, uint64_t place, const Header *header) noexcept:
        """True if a record's key has the bits of the hash that an entry of shard 0 stands for."""
        cdef uint64_t entry = self.table.entries[place]
        cdef uint64_t home = place // BUCKET_ENTRIES - (
            entry >> ADDRESS_BITS & (DISTANCE_MAX - 1))
        return placing_bits(xxh3(key_of(header), header.key_size, self.seed)) == (
            entry >> TAG_SHIFT << TAG_SHIFT | home & (SHARD_BUCKETS - 1))

    def check_stash(self) -> bool:
        """True if all entries that found no place point to where a record may be."""
        cdef uint64_t i, address
        for i in range(self.stash_count):
            address = self.stash[i].address
            if (
                address > ADDRESS_MASK or offset_of(address) < SEGMENT_HEADER_BYTES
                or not points_to_record(self.segments, address)
                or self.stash[i].hash != placing_bits(self.stash[i].hash)
            ):
                return False
        return True

    def memory_bytes(self) -> int:
        """Return the bytes of RAM that the tables take."""
        return (
            (self.table.shards + self.old.shards) * SHARD_BYTES - self.released_bytes * (
                self.old.entries != NULL) + self.stash_count * sizeof(Stashed))


cdef uint64_t purge_shard(uint64_t *entries, const uint8_t *is_gone) noexcept nogil:
    """Drop the entries that point into slots that are gone; return how many."""
    cdef uint64_t i, dropped = 0
    for i in range(SHARD_ENTRIES):
        while entries[i] and is_gone[slot_of(entries[i] & ADDRESS_MASK)]:
            close_gap(entries, i)
            dropped += 1
    return dropped
