"""A key run: an immutable, sorted file of keys that lived once.

FORMAT.md draws the layout: pages of 4 KiB, each with a table of where its entries begin, so that a
search needs no memory of its own and a scan can go both ways.

Invariants:

* A block is compared with its checksum, and the places and sizes in it with its bounds, before a
  byte of it is used.  That first look is done without the GIL: the block may come from the disk.
* Keys grow from entry to entry and from block to block; a block in which they don't is refused.
* A run is derived from the log: with rebuild=True a store opens without it.
"""

import struct

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.order.key_sort cimport compare, prefix_of
from kvengine.engine.index.keys cimport KEY_MAX

from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log.manifest import NUMBER_LIMIT
from kvengine.engine.log.segment import bytes_at
from kvengine.errors import CorruptData, UnsupportedFormat

MAGIC = b"kvkeys\0\0"
FORMAT = 1
HEADER = struct.Struct("<8sII16sQQQQ")  # magic, format, zero, uuid, blocks, count, limit, mark
ENTRIES_MAX = (BLOCK_BYTES - BLOCK_HEADER_BYTES) // (2 + ENTRY_HEADER_BYTES + 1)
REBUILD = " (open with rebuild=True to rebuild the key runs from the log)"


cdef bint is_sound(const char *block, uint64_t number) noexcept nogil:
    """True if a block is what was written, nothing in it points outside, and its keys grow."""
    cdef uint64_t checksum
    cdef uint16_t count, place, size
    cdef uint32_t i
    cdef KeyEntry before, entry
    memcpy(&checksum, block, 8)
    if xxh3(block + 8, BLOCK_BYTES - 8, number) != checksum:
        return False
    memcpy(&count, block + 8, 2)
    if count == 0 or BLOCK_HEADER_BYTES + 2 * <uint32_t>count > BLOCK_BYTES:
        return False
    for i in range(count):
        memcpy(&place, block + BLOCK_HEADER_BYTES + 2 * i, 2)
        if place < BLOCK_HEADER_BYTES or place + ENTRY_HEADER_BYTES > BLOCK_BYTES:
            return False
        memcpy(&size, block + place, 2)
        if size == 0 or size > KEY_MAX:
            return False
        if <uint32_t>place + ENTRY_HEADER_BYTES + size > BLOCK_BYTES:
            return False
        entry.key, entry.size = block + place + ENTRY_HEADER_BYTES, size
        entry.prefix = prefix_of(entry.key, size)
        if i and compare(&before, &entry) >= 0:
            return False
        before = entry
    return True


cdef uint32_t count_of(const RunView *run, uint64_t block) noexcept nogil:
    """Return how many entries a verified block has."""
    cdef uint16_t count
    memcpy(&count, run.base + (block + 1) * BLOCK_BYTES + 8, 2)
    return count


cdef void read_entry(
    const RunView *run, uint64_t block, uint32_t index, KeyEntry *entry
) noexcept nogil:
    """Read an entry of a verified block."""
    cdef const char *start = run.base + (block + 1) * BLOCK_BYTES
    cdef uint16_t offset, size
    memcpy(&offset, start + BLOCK_HEADER_BYTES + 2 * index, 2)
    memcpy(&size, start + offset, 2)
    entry.address = 0
    memcpy(&entry.address, start + offset + 2, 5)
    entry.key, entry.size = start + offset + ENTRY_HEADER_BYTES, size
    entry.prefix = prefix_of(entry.key, size)


cdef bint seek_run(
    const RunView *run, const KeyEntry *key, bint after, Place *place, uint64_t *unverified
) noexcept nogil:
    """Find the first key at or behind `key` (`after`: behind).

    False if a block must be verified before the search can go on: its number is in `unverified`.
    """
    cdef KeyEntry entry
    cdef uint64_t low = 0, high = run.blocks, middle
    cdef uint32_t first = 0, last, half
    cdef int order
    if run.blocks == 0:
        place[0] = Place(0, 0)
        return True
    # The last block whose first key is before `key`, or at it.
    while high - low > 1:
        middle = (low + high) // 2
        unverified[0] = middle
        if not run.verified[middle]:
            return False
        read_entry(run, middle, 0, &entry)
        if compare(&entry, key) <= 0:
            low = middle
        else:
            high = middle
    unverified[0] = low
    if not run.verified[low]:
        return False
    last = count_of(run, low)
    while first < last:
        half = (first + last) // 2
        read_entry(run, low, half, &entry)
        order = compare(&entry, key)
        if order < 0 or (after and order == 0):
            first = half + 1
        else:
            last = half
    place[0] = Place(low, first)
    if first == count_of(run, low):
        place[0] = Place(low + 1, 0)
        unverified[0] = low + 1
        return low + 1 == run.blocks or run.verified[low + 1]
    return True


cdef bint step_run(
    const RunView *run, Place *place, bint back, bint *alive, uint64_t *unverified
) noexcept nogil:
    """Go to the next place, or the one before; `alive` is false at the end.

    False if a block must be verified first: its number is in `unverified`.
    """
    alive[0] = True
    if back:
        if place.index > 0:
            place.index -= 1
        elif place.block == 0:
            alive[0] = False
        else:
            unverified[0] = place.block - 1
            if not run.verified[place.block - 1]:
                return False
            place.block -= 1
            place.index = count_of(run, place.block) - 1
        return True
    place.index += 1
    if place.index == count_of(run, place.block):
        unverified[0] = place.block + 1
        if place.block + 1 == run.blocks:
            alive[0] = False
        elif not run.verified[place.block + 1]:
            return False
        place[0] = Place(place.block + 1, 0)
    return True


cdef class KeyRun:
    """One run, mapped.

    Raises:
        CorruptData: the file is not a whole run of this store.

    Thread-safety: read while holding the GIL.
    """

    def __cinit__(self, file: MappedFile, name: str, uuid: bytes) -> None:
        header = bytes_at(file, 0, min(BLOCK_BYTES, file.size_bytes))
        if len(header) < BLOCK_BYTES:
            raise self._damage(file, 0, f"{BLOCK_BYTES} bytes of header", len(header))
        expected = xxh3_64(header[8:])
        if header[:8] != struct.pack("<Q", expected):
            raise self._damage(file, 0, expected, "another checksum")
        magic, format_version, _, owner, blocks, count, limit, mark = HEADER.unpack_from(header, 8)
        if magic != MAGIC or format_version != FORMAT:
            raise UnsupportedFormat(f"{file.name} has format {format_version}, expected {FORMAT}")
        if owner != uuid or file.size_bytes != (blocks + 1) * BLOCK_BYTES:
            raise self._damage(file, 0, f"{(blocks + 1) * BLOCK_BYTES} bytes of this store",
                               file.size_bytes)
        if not blocks <= count <= blocks * ENTRIES_MAX or max(limit, mark) > NUMBER_LIMIT:
            raise self._damage(file, 0, f"a run of {blocks} blocks", f"{count} keys")
        self.file, self.name = file, name
        self.count, self.segment_limit, self.removals_mark = count, limit, mark
        self.view.base, self.view.blocks = self.file.base, blocks
        self.view.verified = <uint8_t *>calloc(blocks + 1, 1)
        if self.view.verified == NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.view.verified)

    @staticmethod
    def _damage(file: MappedFile, offset: int, expected: object, found: object) -> CorruptData:
        return CorruptData(
            "key run" + REBUILD, file=file.name, offset=offset, expected=expected, found=found)

    cdef int verify_block(self, uint64_t block) except -1:
        """Check a block unless that was done."""
        cdef bint sound
        cdef const char *start = self.file.base + (block + 1) * BLOCK_BYTES
        if not self.view.verified[block]:
            self.file.check_readable((block + 1) * BLOCK_BYTES, BLOCK_BYTES)
            with nogil:
                sound = is_sound(start, block)
            if not sound:
                raise self._damage(
                    self.file, (block + 1) * BLOCK_BYTES, "the bytes that were written", "others")
            self.view.verified[block] = 1
            if not self._fits(block):
                self.view.verified[block] = 0
                raise self._damage(
                    self.file, (block + 1) * BLOCK_BYTES, "keys that grow from block to block",
                    "others")
        return 0

    cdef bint _fits(self, uint64_t block) noexcept nogil:
        """True if the keys of a block lie between those of its verified neighbors.

        So keys grow wherever a scan goes on from one block to the next.
        """
        cdef KeyEntry before, after
        if block and self.view.verified[block - 1]:
            read_entry(&self.view, block - 1, count_of(&self.view, block - 1) - 1, &before)
            read_entry(&self.view, block, 0, &after)
            if compare(&before, &after) >= 0:
                return False
        if block + 1 < self.view.blocks and self.view.verified[block + 1]:
            read_entry(&self.view, block, count_of(&self.view, block) - 1, &before)
            read_entry(&self.view, block + 1, 0, &after)
            return compare(&before, &after) < 0
        return True

    def problems(self) -> list[CorruptData]:
        """Check every block; return what is wrong."""
        cdef uint64_t block, entries = 0
        found = []
        for block in range(self.view.blocks):
            try:
                self.verify_block(block)
                entries += count_of(&self.view, block)
            except CorruptData as error:
                found.append(error)
        if not found and entries != self.count:
            found.append(self._damage(self.file, 0, f"{self.count} keys", f"{entries} in all"))
        return found


cdef class RunWriter:
    """Packs sorted entries into blocks, and blocks into large writes.

    add() needs no GIL; flush() must be called before a megabyte was added since the last one.
    """

    def __cinit__(self, output: object) -> None:
        self.output = output
        self.bytes = <char *>malloc(2 * WRITE_BYTES)
        if self.bytes == NULL:
            raise MemoryError
        self.block = self.bytes
        output.write(b"\0" * BLOCK_BYTES)  # the header comes when everything is known

    def __dealloc__(self) -> None:
        free(self.bytes)

    cdef void add(self, const KeyEntry *entry) noexcept nogil:
        """Append an entry; its key is greater than the one before."""
        cdef uint32_t need = ENTRY_HEADER_BYTES + entry.size
        cdef uint16_t offset, size
        if BLOCK_HEADER_BYTES + 2 * (self.entries + 1) + self.used + need > BLOCK_BYTES:
            self._close_block()
        self.used += need
        offset, size = <uint16_t>(BLOCK_BYTES - self.used), <uint16_t>entry.size
        memcpy(self.block + BLOCK_HEADER_BYTES + 2 * self.entries, &offset, 2)
        memcpy(self.block + offset, &size, 2)
        memcpy(self.block + offset + 2, &entry.address, 5)
        memcpy(self.block + offset + ENTRY_HEADER_BYTES, entry.key, size)
        self.entries += 1
        self.count += 1

    cdef void _close_block(self) noexcept nogil:
        cdef uint16_t count = <uint16_t>self.entries
        cdef uint32_t gap = BLOCK_HEADER_BYTES + 2 * self.entries
        cdef uint64_t checksum
        memcpy(self.block + 8, &count, 2)
        memset(self.block + 10, 0, 2)
        memset(self.block + gap, 0, BLOCK_BYTES - self.used - gap)
        checksum = xxh3(self.block + 8, BLOCK_BYTES - 8, self.blocks)
        memcpy(self.block, &checksum, 8)
        self.blocks += 1
        self.entries = self.used = 0
        self.filled += BLOCK_BYTES
        self.block += BLOCK_BYTES

    cdef int flush(self, bint all) except -1:
        """Write the blocks that are full, when there are many or `all` are wanted."""
        if all and self.entries:
            self._close_block()
        if self.filled >= WRITE_BYTES or all and self.filled:
            self.output.write(self.bytes[:self.filled])
            memcpy(self.bytes, self.block, BLOCK_BYTES)
            self.block, self.filled = self.bytes, 0
        return 0

    def finish(self, uuid: bytes, segment_limit: int, removals_mark: int) -> bytes:
        """Write the last block and return the header, which goes to the start of the file."""
        self.flush(True)
        body = HEADER.pack(MAGIC, FORMAT, 0, uuid, self.blocks, self.count, segment_limit,
                           removals_mark).ljust(BLOCK_BYTES - 8, b"\0")
        return struct.pack("<Q", xxh3_64(body)) + body

    def add_key(self, key: bytes, address: int) -> None:
        """Append an entry; for tests."""
        cdef KeyEntry entry
        entry.key, entry.size, entry.address = key, <uint32_t>len(key), address
        entry.prefix = prefix_of(entry.key, entry.size)
        self.add(&entry)
        self.flush(False)
