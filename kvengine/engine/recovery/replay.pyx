"""Replay: bring an index up to date with records that it does not have yet.

Recovery, a follower in another process, and the rebuilding of a lost index all use this.

Invariants:

* Applying a record twice, or a record older than what the index knows, changes nothing.
* A batch is applied only if its last record was found complete.
* In a segment of the log each version is one more than the one before, unless its record marks a
  gap; in a compacted segment versions only increase.  Anything else ends the replay with
  BAD_VERSION.
* A reader in use sees the applied records and its version change together: in follow() no other
  Python code runs in the same thread, and other threads wait for it.
"""

from libc.stdint cimport int64_t, uint64_t

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.key_index cimport ADDRESS_MASK, home_line, kv_prefetch
from kvengine.engine.order.key_order cimport KeyOrder
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport (
    BAD_VERSION, DELETE, DURABLE, END_OF_LOG, EXPIRES, GAP, HEADER_BYTES, MORE, Header, check,
    expiry_of, flags_of, key_of, kind_of, size_of, version_of,
)
from kvengine.engine.log.segment cimport (
    SEGMENT_HEADER_BYTES, Segment, make_address, note_expiry, slot_of,
)

from kvengine.options import VALUE_BYTES_MAX

cdef extern from "Python.h":
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept

cdef enum:
    GROUP = 64

BAD_VERSION_CODE = BAD_VERSION

cdef uint64_t RECORD_MAX = VALUE_BYTES_MAX + (64 << 10)  # with key, metadata and what goes before


cdef class Replay:
    """One pass over the records of a segment, as many as are whole.

    After run(): `offset` and `version` say how far the log is good (both after a whole batch),
    `code` why it stopped there: 0 at the end, or what record.check() said at `bad_offset`.
    """

    cdef Reader reader
    cdef KeyOrder order
    cdef uint64_t slot
    cdef readonly uint64_t offset, version, bad_offset
    cdef readonly int64_t code
    cdef uint64_t end, stop
    cdef bint contiguous
    cdef uint64_t known             # keys of records up to this version are in the key order

    def __cinit__(
        self, reader: Reader, order: KeyOrder, segment_id: int, *, start: int, end: int,
        version: int, contiguous: bool, known: int,
    ) -> None:
        self.reader, self.order = reader, order
        self.slot = reader.segments.slots[segment_id]
        self.offset, self.version, self.end = start, version, end
        self.contiguous, self.known = contiguous, known

    def run(self, until: int = 0) -> None:
        """Apply whole batches up to the end, the first bad record, or version `until`."""
        cdef uint64_t[GROUP] offsets
        cdef uint64_t[GROUP] hashes
        cdef Py_ssize_t n
        self.code, self.stop = 0, until
        while self.stop == 0 or self.version < self.stop:
            n = self._collect(offsets, hashes)
            if n:
                self._apply(offsets, hashes, n)
            if n < 0:
                self._apply_long_batch()
            if self.code or n == 0:
                return

    def follow(self, until: int) -> None:
        """As run(), for a reader that is in use: it is at the new version when the call ends.

        The collector is kept away meanwhile, as finalizers may read the store; where a record
        must come from the disk first, other threads run.
        """
        cdef int collects = PyGC_Disable()
        try:
            self.run(until)
            self.reader.segments.rows[self.slot].end = self.offset
            self.reader.applied = max(self.version, self.reader.applied)
        finally:
            if collects:
                PyGC_Enable()

    cdef Py_ssize_t _collect(self, uint64_t *offsets, uint64_t *hashes) except? -1:
        """Find the next records, whole batches only; -1 if one batch has more than a group."""
        cdef Segment *row = &self.reader.segments.rows[self.slot]
        cdef uint64_t offset = self.offset
        cdef uint64_t version = self.version
        cdef Py_ssize_t n = 0, whole = 0
        cdef int64_t size
        cdef const Header *header
        while n < GROUP:
            size = self._step(row, offset, version)
            if size <= 0:
                self.code, self.bad_offset = size, offset
                break
            header = <const Header *>(row.base + offset)
            offsets[n] = offset
            hashes[n] = xxh3(key_of(header), header.key_size, self.reader.seed)
            kv_prefetch(home_line(self.reader.index, hashes[n]))
            n += 1
            offset += size
            version = version_of(header)
            if not flags_of(header) & MORE:
                whole, self.offset, self.version = n, offset, version
                if version == self.stop:  # behind it a writer may be at work, or have cut the file
                    break
        if whole == 0 and n == GROUP:
            return -1
        return whole

    cdef int64_t _step(self, Segment *row, uint64_t offset, uint64_t version) noexcept:
        """Check the record at an offset; return its size, or why there is none."""
        if offset >= self.end:
            return END_OF_LOG
        cdef int64_t size = check(
            row.base + offset, self.end - offset, row.salt + offset, True)
        cdef const Header *header = <const Header *>(row.base + offset)
        if size > 0:
            # Neither less nor more than the truth: a gap that is none is damage as well.
            if self.contiguous and (
                (version_of(header) != version + 1) != (flags_of(header) & GAP != 0)
            ):
                return BAD_VERSION
            if version_of(header) <= version:
                return BAD_VERSION
        return size

    cdef void _extend(self, uint64_t end) noexcept:
        """End the segment after its whole records; no reader goes past the end."""
        cdef Segment *row = &self.reader.segments.rows[self.slot]
        row.end = max(row.end, end)

    cdef int _apply(self, uint64_t *offsets, uint64_t *hashes, Py_ssize_t n) except -1:
        cdef Py_ssize_t i
        cdef const char *other
        self._extend(self.offset)
        for i in range(n):
            other = self.reader.first_guess(hashes[i])
            if other != NULL:
                kv_prefetch(other)
                kv_prefetch(other + 64)
                kv_prefetch(other + 128)
        for i in range(n):
            self._apply_one(offsets[i], hashes[i])
        return 0

    cdef int _apply_long_batch(self) except -1:
        """Apply a batch that is longer than a group, if its end is there."""
        cdef Segment *row = &self.reader.segments.rows[self.slot]
        cdef uint64_t offset = self.offset
        cdef uint64_t version = self.version
        cdef int64_t size
        cdef const Header *header
        while True:
            size = self._step(row, offset, version)
            if size <= 0:
                self.code, self.bad_offset = size, offset
                if size == 0:
                    self.code = END_OF_LOG
                return 0
            header = <const Header *>(row.base + offset)
            offset += size
            version = version_of(header)
            if not flags_of(header) & MORE:
                break
        self._extend(offset)
        while self.offset < offset:
            header = <const Header *>(row.base + self.offset)
            self._apply_one(self.offset, xxh3(key_of(header), header.key_size, self.reader.seed))
            self.offset += size_of(header)
        self.version = version
        return 0

    cdef int _apply_one(self, uint64_t offset, uint64_t hash) except -1:
        """Let the index know one record, unless it knows a newer one of the key."""
        cdef Reader reader = self.reader
        cdef Segment *row = &reader.segments.rows[self.slot]
        cdef const Header *header = <const Header *>(row.base + offset)
        cdef const char *key = key_of(header)
        cdef uint64_t size = size_of(header)
        cdef uint64_t address = make_address(self.slot, offset)
        reader.index.preserve(hash)
        cdef uint64_t *entry = reader.locate(hash, key, header.key_size)
        cdef const Header *other
        cdef bint expires = flags_of(header) & EXPIRES != 0
        if kind_of(header) == DELETE:
            row.tombstone_bytes += size
        if kind_of(header) == DELETE or expires:
            reader.removals += 1
        if entry != NULL:
            other = reader.checked(entry[0] & ADDRESS_MASK)
            if version_of(other) >= version_of(header):
                return 0
            self._count(entry[0] & ADDRESS_MASK, other, False)
            if kind_of(header) == DELETE:
                reader.index.remove(entry, hash)
                return 0
            reader.index.replace(entry, hash, address)
        elif kind_of(header) == DELETE:
            return 0
        else:
            reader.index.insert(hash, address)
            if self.order is not None and version_of(header) > self.known:
                self.order.add(key, header.key_size, address)
        self._count(address, header, True)
        return 0

    cdef void _count(self, uint64_t address, const Header *header, bint lives) noexcept:
        cdef Segment *row = &self.reader.segments.rows[slot_of(address)]
        cdef uint64_t size = size_of(header)
        if lives:
            row.live_bytes += size
        else:
            row.live_bytes -= size
        if self.reader.groups is not None:
            self.reader.groups.add_record(header, 1 if lives else -1)
        if flags_of(header) & EXPIRES:
            if lives:
                row.expiring_bytes += size
                note_expiry(row, expiry_of(header))
            else:
                row.expiring_bytes -= size


def may_end_at(segments, segment_id: int, end: int, version: int) -> bool:
    """True if the records of a segment up to a version may end at an offset.

    There is no way back from the end of a record to its beginning, so each place where it could
    begin is tried.  Is there none, then only a record that was damaged since may lie there.
    """
    cdef Segment *rows = (<Reader>segments).segments.rows
    cdef uint64_t slot = (<Reader>segments).segments.slots[segment_id]
    cdef Segment *row = &rows[slot]
    cdef uint64_t size = (<Reader>segments).segments.file(slot).size_bytes
    cdef uint64_t stop = end, wanted = version, offset
    cdef const Header *header
    if stop < SEGMENT_HEADER_BYTES + HEADER_BYTES or stop & 15 or stop > size:
        return stop == SEGMENT_HEADER_BYTES
    offset = (stop - HEADER_BYTES) & ~<uint64_t>15
    while offset >= SEGMENT_HEADER_BYTES and stop - offset <= RECORD_MAX:
        header = <const Header *>(row.base + offset)
        if (
            version_of(header) == wanted and offset + size_of(header) == stop
            and check(row.base + offset, stop - offset, row.salt + offset, False) > 0
        ):
            return True
        offset -= 16
    cdef bint damaged
    with nogil:
        damaged = ends_in_damage(row, stop, wanted, size)
    return damaged


cdef bint ends_in_damage(
    const Segment *row, uint64_t end, uint64_t version, uint64_t size,
) noexcept nogil:
    """True if the bytes before an offset are no record, and no record contradicts that end."""
    cdef uint64_t offset = SEGMENT_HEADER_BYTES, good = offset
    cdef int64_t found
    cdef bint is_old
    while offset + HEADER_BYTES <= size:
        found = check(row.base + offset, size - offset, row.salt + offset, False)
        if found <= 0:
            offset += 16
            continue
        is_old = version_of(<const Header *>(row.base + offset)) <= version
        if is_old != (offset < end) or offset < end and offset + <uint64_t>found > end:
            return False
        offset += <uint64_t>found
        if offset <= end:
            good = offset
    return good < end and check(row.base + good, size - good, row.salt + good, False) < 0


def last_durable_mark(segments, segment_id: int, start: int, end: int) -> int:
    """Return the offset of the last whole record in [start, end) that vouches for what precedes it.

    Used after a crash, behind the first bad record: a record that was written when everything
    before it was on disk proves that the bad one was damaged later.  0 if there is none.
    """
    cdef Segment *rows = (<Reader>segments).segments.rows
    cdef uint64_t slot = (<Reader>segments).segments.slots[segment_id]
    cdef Segment *row = &rows[slot]
    cdef uint64_t offset = (<uint64_t>start + 15) & ~<uint64_t>15
    cdef uint64_t limit = end
    cdef uint64_t found = 0
    cdef int64_t size
    with nogil:
        while offset + 24 <= limit:
            size = check(row.base + offset, limit - offset, row.salt + offset, False)
            if size > 0:
                if flags_of(<const Header *>(row.base + offset)) & DURABLE:
                    found = offset
                offset += size
            else:
                offset += 16
    return found
