"""Reading a segment's records in the order of the log, for tails, verification and salvage.

Invariants:

* A record is returned only after all its checksums were verified, and only if its version is above
  that of the record before.
* The walk refers to its file, so it continues when compaction removes the segment meanwhile.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport (
    ALIGNMENT, BAD_VERSION, HEADER_BYTES, Header, PUT, UNREADABLE, check, expiry_of, key_of,
    kind_of, load_record, size_of, value_of, version_of,
)
from kvengine.engine.log.segment cimport SegmentTable
from kvengine.entry cimport new_row, set_field
from kvengine.file.mapped cimport MappedFile

from kvengine.engine.log import segment_file
from kvengine.engine.log.record import damage
from kvengine.engine.jobs.gil import yield_gil
from kvengine.entry import Change

MANY_BYTES = 1 << 62
cdef uint64_t FIRST_RECORD = segment_file.HEADER_BYTES

cdef enum:
    PAGE_BYTES = 4096           # or a part of one


cdef class Selector:
    """Which keys a walk gives out: one, or those with a prefix.

    Thread-safety: it never changes.
    """

    cdef bytes start
    cdef bint whole

    def __cinit__(self, start: bytes, *, whole: bool = False) -> None:
        self.start, self.whole = start, whole

    cdef bint takes(self, const Header *header) noexcept:
        cdef uint64_t size = PyBytes_GET_SIZE(self.start)
        if header.key_size < size or self.whole and header.key_size != size:
            return False
        return memcmp(key_of(header), PyBytes_AS_STRING(self.start), size) == 0


cdef Selector EVERY_KEY = Selector(b"")


cdef class LogWalk:
    """A position in one segment.

    Thread-safety: for one thread.
    """

    cdef MappedFile file
    cdef uint64_t salt, end
    cdef uint64_t loaded            # up to here the file was read into memory
    cdef readonly uint64_t offset
    cdef readonly uint64_t version

    def __cinit__(
        self, file: MappedFile, salt: int, start: int, end: int, version: int = 0,
    ) -> None:
        self.file, self.salt, self.offset, self.end = file, salt, start, end
        self.version = version

    def changes(
        self, after: int, limit: int, keys: Selector, bytes_limit: int = MANY_BYTES,
    ) -> list[Change]:
        """Return up to `limit` changes of keys with versions above `after`; none only at the end.

        The last one is the first that makes their records larger than `bytes_limit`.

        Raises:
            CorruptData: a record is not what was written.
        """
        cdef list found = []
        cdef uint64_t newest = after
        cdef Py_ssize_t most = limit
        cdef int64_t size, room = bytes_limit
        cdef const Header *header
        while len(found) < most and room >= 0 and self.offset < self.end:
            size = self._check(newest, keys)
            if size <= 0:
                raise damage(size if size < 0 else -1, self.file.name, self.offset, "other bytes")
            header = <const Header *>(self.file.base + self.offset)
            if version_of(header) <= self.version:
                raise damage(BAD_VERSION, self.file.name, self.offset, version_of(header))
            if version_of(header) > newest and keys.takes(header):
                found.append(change_of(header))
                room -= size
            self.version = version_of(header)
            self.offset += size
        return found

    def skip_record(self) -> int:
        """Check the next record and step over it; return its size, 0 or less for what is wrong."""
        cdef int64_t size = self._check(0, EVERY_KEY)
        if size > 0:
            if version_of(<const Header *>(self.file.base + self.offset)) <= self.version:
                return BAD_VERSION
            self.version = version_of(<const Header *>(self.file.base + self.offset))
            self.offset += size
        return size

    def next_change(self) -> tuple[Change | None, int]:
        """Return the next change and 0, or None and what is wrong with the record here."""
        cdef int64_t size = self._check(0, EVERY_KEY)
        if size <= 0:
            return None, size
        change = change_of(<const Header *>(self.file.base + self.offset))
        self.offset += size
        return change, 0

    def find_next(self) -> bool:
        """After damage: go to the next place where a whole record begins; False if none."""
        cdef int64_t size
        cdef uint64_t offset = (self.offset + 16) & ~<uint64_t>15
        cdef bint found = False
        with nogil:
            while offset + HEADER_BYTES <= self.end:
                if load_record(self.file, &self.loaded, offset, self.end):
                    size = check(
                        self.file.base + offset, self.end - offset, self.salt + offset, True)
                elif self.file.load(offset, HEADER_BYTES) != 0:
                    offset |= PAGE_BYTES - ALIGNMENT  # nothing of this page
                    size = UNREADABLE
                else:
                    size = UNREADABLE
                if size > 0:
                    found = True
                    break
                offset += 16
        self.offset = offset if found else self.end
        return found

    cdef int64_t _check(self, uint64_t after, Selector keys) except? -1:
        """Check the record here; large values without the GIL, and only if they are wanted."""
        cdef const char *start = self.file.base + self.offset
        cdef uint64_t available = self.end - self.offset
        cdef uint64_t seed = self.salt + self.offset
        cdef int64_t size
        cdef const Header *header = <const Header *>start
        cdef bint there = self.loaded >= self.end or (
            self.offset + HEADER_BYTES <= self.loaded
            and self.offset + size_of(header) <= self.loaded)
        if not there:
            with nogil:
                there = load_record(self.file, &self.loaded, self.offset, self.end)
            if not there:
                return UNREADABLE
        size = check(start, available, seed, False)
        if size > 0 and version_of(header) > after and keys.takes(header):
            if size > 65536:
                with nogil:
                    size = check(start, available, seed, True)
            else:
                size = check(start, available, seed, True)
        return size


def walks_behind(
    store: Reader, after: int, segment_id: int, offset: int
) -> tuple[list[LogWalk], int, tuple[int, int]]:
    """Return where the log has more than version `after`, its version, and where it ends.

    All as of one moment, and without the writer's lock: it is read in one step, in which no other
    code runs, so a log whose writer failed, or is interrupted, can be read as well.

    Args:
        segment_id, offset: how far one segment was read already.
    """
    cdef SegmentTable table = store.segments
    cdef list rows = list((<object>store).rows)
    cdef Py_ssize_t i, n = len(rows)
    cdef uint64_t *slots = <uint64_t *>malloc(2 * max(n, <Py_ssize_t>1) * sizeof(uint64_t))
    cdef uint64_t *ends = slots + n
    cdef uint64_t version, first
    if slots == NULL:
        raise MemoryError
    try:
        while not places_of(table, rows, slots, ends):
            yield_gil()  # compaction is about to put other segments in their place
            table, rows = store.segments, list((<object>store).rows)
            if len(rows) > n:
                return walks_behind(store, after, segment_id, offset)
            n = len(rows)
        version = store.applied
        walks = []
        for i in range(n):
            last = rows[i].last_version
            if last is None or last > after:
                first = offset if rows[i].id == segment_id else FIRST_RECORD
                walks.append(LogWalk(
                    table.file(slots[i]), table.rows[slots[i]].salt, first, ends[i]))
        return walks, version, (rows[n - 1].id, ends[n - 1]) if n else (0, 0)
    finally:
        free(slots)


cdef bint places_of(SegmentTable table, list rows, uint64_t *slots, uint64_t *ends) except -1:
    """Note slot and end of each segment; False if one of them is not there any more."""
    cdef Py_ssize_t i
    for i in range(len(rows)):
        slot = table.slots.get(rows[i].id)
        if slot is None:
            return False
        slots[i] = slot
        ends[i] = table.rows[slots[i]].end
    return True


cdef object change_of(const Header *header):
    cdef const char *key = key_of(header)
    cdef const char *metadata = key + header.key_size
    cdef const char *value = value_of(header)
    cdef double expires_at = expiry_of(header)
    cdef object change = new_row(Change, 6)  # the walk holds the file: nothing moves
    set_field(change, 0, version_of(header))
    set_field(change, 1, "put" if kind_of(header) == PUT else "delete")
    set_field(change, 2, key[:header.key_size])
    set_field(change, 3, value[:header.value_size])
    set_field(change, 4, metadata[:header.metadata_size])
    set_field(change, 5, expires_at if expires_at else None)
    return change
