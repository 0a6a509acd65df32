"""The segments of a store: mapped files of records, each in a numbered slot.

An address is a slot and an offset, so a get goes from index entry to record with one lookup in a
table that fits into the first-level cache.

Invariants:

* Slot number 0 is never used, so no address is 0.
* Slots are reused, ids never: a slot is the place of a segment, an id identifies it.
* `live_bytes` is exact: the sum of the sizes of the records that the index points to.
* A slot without a segment has the end 0, so an address in it is never taken for a record.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from kvengine.engine.index.hash cimport xxh3

from kvengine.errors import InvalidRequest

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE
    void *MAP_FAILED
    void *mmap(void *address, size_t size, int protection, int flags, int fd, int64_t offset)
    int munmap(void *address, size_t size)

cdef enum:
    FIRST_VERSION_AT = 40       # in the header of a segment
    WIDE_BITS = 20              # larger pieces are looked at first: recovery reads much

cdef size_t TABLE_BYTES = SLOTS_MAX * sizeof(Segment)

MAP_BYTES = SEGMENT_MAP_BYTES


cdef bint is_resident(Segment *row, MappedFile file, uint64_t offset, int bits) noexcept:
    """True if the piece of 2 ** bits bytes around an offset is in memory; that is remembered."""
    cdef uint64_t start = offset >> bits << bits
    cdef uint64_t size = min(<uint64_t>1 << bits, row.end - start)
    # The page cache may hold what lay behind the end of a file that was shortened: the last byte
    # tells.
    if not file.resident(start, size) or file.load(start + size - 1, 1) != 0:
        return False
    memset(row.resident + (start >> CHUNK_BITS), 1, (size - 1 >> CHUNK_BITS) + 1)
    return True


cdef class SegmentTable:
    """All segments of one store, by slot.

    Thread-safety: changed and read while holding the GIL.
    """

    def __cinit__(self) -> None:
        # Untouched pages cost no memory.  Those of a calloc() would: once one this large was freed,
        # malloc keeps the next on its heap and fills it with zeros.
        cdef void *rows = mmap(
            NULL, TABLE_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if rows == MAP_FAILED:
            raise MemoryError(f"the table of segments needs {TABLE_BYTES} bytes of address space")
        self.rows = <Segment *>rows
        self.files = [None]
        self.slots = {}
        self.free = []
        self.uncertain = set()
        self.restored = set()
        self.used = 1

    def __dealloc__(self) -> None:
        cdef uint64_t slot
        if self.rows != NULL:
            for slot in range(self.used):
                free(self.rows[slot].resident)
            munmap(self.rows, TABLE_BYTES)

    cdef uint64_t add(
        self, MappedFile file, uint64_t segment_id, uint64_t salt, uint64_t end, bint resident,
    ) except 0:
        """Give the segment a slot and return its number."""
        cdef uint64_t slot
        if not self.free:
            if self.used == SLOTS_MAX:
                raise InvalidRequest(f"the store has more than {SLOTS_MAX - 1} segments")
            self.files.append(None)
            self.free.append(self.used)
            self.used += 1
        slot = self.free[len(self.free) - 1]
        self._fill(slot, file, segment_id, salt, end, resident)
        self.free.pop()
        return slot

    cdef void fit(self) noexcept:
        """Give back address space of the segments of the log that are full.

        They grow no more once there are records in one that came after; a disk that is slow may let
        them wait long until they are closed.
        """
        cdef uint64_t slot, newest = 0
        for slot in range(1, self.used):
            if self._may_grow(slot) and self.rows[slot].end > SEGMENT_HEADER_BYTES:
                newest = max(newest, self.rows[slot].id)
        for slot in range(1, self.used):
            if self._may_grow(slot) and self.rows[slot].id < newest:
                (<MappedFile>self.files[slot]).fit()

    cdef bint _may_grow(self, uint64_t slot) noexcept:
        """True of a segment of the log that is not closed."""
        cdef object file = self.files[slot]
        return file is not None and (<MappedFile>file).fd >= 0 and not (<MappedFile>file).by_size

    cdef MappedFile file(self, uint64_t slot):
        return <MappedFile>self.files[slot]

    cdef bint warm(self, uint64_t address) noexcept:
        """Bring the beginning of a record into memory without holding up other threads.

        False: it can't be read.
        """
        cdef uint64_t offset = offset_of(address)
        cdef Segment *row = &self.rows[slot_of(address)]
        cdef MappedFile file = <MappedFile>self.files[slot_of(address)]  # holds the mapping
        cdef uint64_t size = min(<uint64_t>4096, row.end - offset)
        cdef int code
        if is_resident(row, file, offset, WIDE_BITS) or is_resident(
            row, file, offset, CHUNK_BITS
        ):
            return True
        with nogil:
            code = file.load(offset, size)
        return code == 0

    cdef int bring_in(self, uint64_t address) except -1:
        """The same; raise CorruptData if it can't be read.  The caller holds the table."""
        cdef uint64_t offset = offset_of(address), end
        if not self.warm(address):
            end = self.rows[slot_of(address)].end
            if end > offset:  # else the segment went meanwhile
                self.file(slot_of(address)).fetch(offset, min(<uint64_t>4096, end - offset))
        return 0

    def place(
        self, slot: int, file: MappedFile, segment_id: int, salt: int, end: int,
    ) -> None:
        """Put a segment into the slot that a saved index knows it by."""
        cdef uint64_t wanted = slot
        if wanted >= SLOTS_MAX:
            raise InvalidRequest(f"slot {slot} is out of range")
        while self.used <= wanted:
            if self.used < wanted:
                self.free.append(self.used)
            self.files.append(None)
            self.used += 1
        if wanted in self.free:
            self.free.remove(wanted)
        self._fill(wanted, file, segment_id, salt, end, False)

    cdef int _fill(
        self, uint64_t slot, MappedFile file, uint64_t segment_id, uint64_t salt, uint64_t end,
        bint resident,
    ) except -1:
        cdef Segment *row = &self.rows[slot]
        cdef uint8_t *chunks = row.resident
        if chunks == NULL:
            chunks = <uint8_t *>calloc(CHUNKS + PROVEN_BYTES, 1)
            if chunks == NULL:
                raise MemoryError
            row.resident = chunks
        self.slots.setdefault(segment_id, slot)  # until begun: two threads may be about to
        memset(row, 0, sizeof(Segment))
        memset(chunks, 1 if resident else 0, CHUNKS)
        memset(chunks + CHUNKS, 0, PROVEN_BYTES)
        row.resident = chunks
        row.verified = chunks + CHUNKS
        row.base = file.base
        row.salt = salt
        row.end = end
        row.id = segment_id
        self.files[slot] = file

    def append(self, file: MappedFile, segment_id: int, salt: int, end: int, resident: bool) -> int:
        """Give the segment a free slot and return its number."""
        return self.add(file, segment_id, salt, end, resident)

    def knows(self, segment_id: int) -> bool:
        """True if the segment has a slot."""
        return segment_id in self.slots

    def retire(self, segment_id: int) -> int:
        """Forget a segment; its slot stays out of use until recycle() gives it back."""
        cdef uint64_t slot = self.slots.pop(segment_id)
        self.uncertain.discard(segment_id)
        self.restored.discard(segment_id)
        cdef uint8_t *chunks = self.rows[slot].resident
        memset(&self.rows[slot], 0, sizeof(Segment))
        self.rows[slot].resident = chunks
        self.rows[slot].verified = chunks + CHUNKS
        self.files[slot] = None
        return slot

    cdef int forget(self, uint64_t segment_id, uint64_t slot) except -1:
        """Give back a slot in which a segment was not begun; it may be in another one."""
        cdef uint8_t *chunks = self.rows[slot].resident
        if self.slots.get(segment_id) == slot:
            self.retire(segment_id)
        else:
            memset(&self.rows[slot], 0, sizeof(Segment))
            self.rows[slot].resident = chunks
            self.rows[slot].verified = chunks + CHUNKS
            self.files[slot] = None
        self.free.append(slot)
        return 0

    def recycle(self, slots: list[int]) -> None:
        """Let retired slots be used again: no saved index mentions them any more."""
        self.free.extend(slots)

    def reserve(self, slot: int) -> None:
        """Keep a slot out of use that a saved index mentions but whose segment is gone."""
        cdef uint64_t wanted = slot
        while self.used <= wanted:
            if self.used < wanted:
                self.free.append(self.used)
            self.files.append(None)
            self.used += 1
        if wanted in self.free:
            self.free.remove(wanted)

    def forget_residency(self) -> None:
        """Memory is scarce: ask the system again whether a chunk is in memory."""
        cdef uint64_t slot
        for slot in range(self.used):
            if self.rows[slot].resident != NULL:
                memset(self.rows[slot].resident, 0, CHUNKS + PROVEN_BYTES)

    def slot(self, segment_id: int) -> int:
        """Return the slot of a segment."""
        return self.slots[segment_id]

    def ids(self) -> list[int]:
        """Return the ids of all segments, oldest first."""
        return sorted(self.slots)

    def segment_file(self, segment_id: int) -> MappedFile:
        """Return the mapped file of a segment."""
        return self.files[self.slots[segment_id]]

    def counters(self, segment_id: int) -> tuple[int, int, int, int, int]:
        """Return (slot, end, live bytes, tombstone bytes, expiring bytes) of a segment."""
        cdef uint64_t slot = self.slots[segment_id]
        cdef Segment *row = &self.rows[slot]
        return slot, row.end, row.live_bytes, row.tombstone_bytes, row.expiring_bytes

    def expiries(self, segment_id: int) -> tuple[float, float]:
        """Return the first and the last moment at which a record of a segment expires."""
        cdef uint64_t slot = self.slots[segment_id]
        return self.rows[slot].expiry_min, self.rows[slot].expiry_max

    def expired_bytes(self, segment_id: int, now: float) -> int:
        """Return an estimate of the bytes of expired records: as if they expired evenly."""
        cdef uint64_t slot = self.slots[segment_id]
        cdef Segment *row = &self.rows[slot]
        cdef double share = 0
        if now >= row.expiry_max:
            share = 1
        elif now > row.expiry_min:
            share = (now - row.expiry_min) / (row.expiry_max - row.expiry_min)
        return int(row.expiring_bytes * share)

    def set_expiries(self, segment_id: int, first: float, last: float) -> None:
        """Set what a saved index says about the expiries of a segment."""
        cdef uint64_t slot = self.slots[segment_id]
        self.rows[slot].expiry_min, self.rows[slot].expiry_max = first, last
        if (first or last) and not self.rows[slot].expiring_bytes:
            self.uncertain.add(segment_id)

    def set_counters(self, segment_id: int, live: int, tombstones: int, expiring: int) -> None:
        """Set what a saved index says about a segment."""
        self.restored.add(segment_id)
        cdef uint64_t slot = self.slots[segment_id]
        self.rows[slot].live_bytes = live
        self.rows[slot].tombstone_bytes = tombstones
        self.rows[slot].expiring_bytes = expiring

    def is_restored(self, segment_id: int) -> bool:
        """True if what is counted of a segment was not counted in this process from the start."""
        return segment_id in self.restored

    def set_end(self, segment_id: int, end: int) -> None:
        """Say how far the records of a segment go."""
        cdef uint64_t slot = self.slots[segment_id]
        self.rows[slot].end = end

    def set_size(self, segment_id: int, size: int) -> None:
        """Say how large a file was found: others may have cut it, or threads gone on since."""
        cdef uint64_t slot = self.slots[segment_id]
        (<MappedFile>self.files[slot]).size_bytes = max(<uint64_t>size, self.rows[slot].end)

    def salt(self, segment_id: int) -> int:
        """Return the salt of a segment's checksums."""
        cdef uint64_t slot = self.slots[segment_id]
        return self.rows[slot].salt

    cpdef bint may_expire(self) noexcept:
        """False if no record that the index points to has an expiry.

        Of a segment that once had some, a saved index that counts none is not believed.
        """
        cdef uint64_t slot
        if self.uncertain:
            return True
        for slot in range(self.used):
            if self.rows[slot].expiring_bytes:
                return True
        return False

    def total_bytes(self) -> int:
        """Return the bytes of all records, dead ones too."""
        cdef uint64_t slot, total = 0
        for slot in range(self.used):
            total += max(self.rows[slot].end, <uint64_t>SEGMENT_HEADER_BYTES) - SEGMENT_HEADER_BYTES
        return total

    def total_live_bytes(self) -> int:
        """Return the bytes of all records that the index points to."""
        cdef uint64_t slot, total = 0
        for slot in range(self.used):
            total += self.rows[slot].live_bytes
        return total


cdef class NextSegment:
    """A segment that is made and mapped, so that going on in it is one step that nothing can cut.

    Args:
        table: where it gets a slot.
        file: its file, which has room for the header.
        segment_id: its number.
        salt: of its checksums.
        header: as it will be, but for the version with which the segment begins.
    """

    def __cinit__(
        self, table: SegmentTable, file: MappedFile, segment_id: int, salt: int, header: bytes,
    ) -> None:
        self.table, self.file, self.id = table, file, segment_id
        memcpy(self.header, <const char *>header, SEGMENT_HEADER_BYTES)
        table.fit()
        self.slot = table.add(file, segment_id, salt, SEGMENT_HEADER_BYTES, True)

    def fit(self, rows: list, begun: list, first_version: int) -> None:
        """Say which list of segments becomes which other if it begins with a version."""
        self.rows, self.begun, self.first_version = rows, begun, first_version

    def drop(self) -> bool:
        """Give the slot back: the segment is not wanted any more; False: it was begun."""
        if self.slot == 0:
            return False
        cdef uint64_t slot = self.slot
        self.slot = 0
        self.table.forget(self.id, slot)
        return True

    cdef int write_header(self) except -1:
        """Write the header; return the number of an error."""
        cdef uint64_t checksum
        memcpy(self.header + FIRST_VERSION_AT, &self.first_version, 8)
        checksum = xxh3(self.header, SEGMENT_HEADER_BYTES - 8, 0)
        memcpy(self.header + SEGMENT_HEADER_BYTES - 8, &checksum, 8)
        return self.file.try_write(self.header, SEGMENT_HEADER_BYTES, 0)


def bytes_at(file: MappedFile, offset: int, size: int) -> bytes:
    """Return bytes of a mapped file.

    Raises:
        InvalidRequest: they do not lie inside the file.
        CorruptData: they did, but can't be read any more.
    """
    cdef uint64_t start = offset, count = size
    if start > file.size_bytes or count > file.size_bytes - start:
        raise InvalidRequest(f"{file.name} has no {size} bytes at {offset}")
    file.check_readable(start, count)
    return file.base[start:start + count]
