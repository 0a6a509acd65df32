"""The copying half of compaction: live records of old segments, packed into new ones.

Invariants:

* Records keep their versions and their order, so the log stays sorted by version.
* The checksum of every record is verified before it is copied.  Damage stops the copying, and so
  does a record that can't follow the one before it, because it would hide other records.
* Nothing points to a copy before publish(), and publish() redirects an index entry only if it
  still points to the record that was copied: a concurrent change wins.
* The GIL is held only for short steps, to ask the index which records are live and to point it
  to copies.  Between them other threads run, and a writing thread yields in its turn: otherwise
  each step would wait five milliseconds for the interpreter to take the GIL away from it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.key_index cimport home_line, kv_prefetch
from kvengine.engine.jobs.pacing cimport Pacer
from kvengine.engine.log.record cimport (
    BAD_VERSION, DELETE, EXPIRES, GAP, PUT, UNREADABLE, Header, check, encode, expiry_of, flags_of,
    key_of, kind_of, load_record, size_of, value_of, version_of,
)
from kvengine.engine.log.segment cimport Segment, make_address, note_expiry, offset_of, slot_of
from kvengine.engine.access.writing cimport Writer
from kvengine.file.mapped cimport MappedFile, storage_error, write_fully

from kvengine.engine.log.record import damage

cdef enum:
    CHUNK_RECORDS = 4096        # looked up at a time with the GIL held: 0.25 ms
    CHUNK_BYTES = 1 << 20
    COPY_BYTES = 4 << 20        # in one call
    PUBLISH_RECORDS = 1024
    HOLD_BACK_RECORDS = 64      # microseconds

    SKIP = 0
    COPY = 1
    DELETED = 2                    # a record that expired becomes a delete

cdef struct Found:
    uint64_t offset
    uint64_t hash
    int verdict

cdef struct Piece:              # of the segment that is copied
    uint64_t start, stop
    Py_ssize_t n                # records found
    int64_t code                # negative: what is wrong at `stop`

cdef struct Target:             # where copies go
    uint64_t number, salt, end

cdef struct Moved:
    uint64_t hash
    uint64_t source             # address
    uint64_t target             # number of the output in the high half, offset in the low one
    uint32_t size
    uint8_t verdict
    uint8_t kind
    uint8_t expires


cdef class Copier:
    """One compaction job.

    Thread-safety: for the one thread that compacts.
    """

    cdef Writer store
    cdef Found *found
    cdef Moved *moved
    cdef uint64_t moved_count, moved_room
    cdef uint64_t published         # how many of them the index knows
    cdef double now
    cdef uint64_t keep_after        # deletes newer than this version are kept in any case
    cdef bint drop_deletes          # others may go: no older record of their key is left
    cdef readonly uint64_t forgotten    # the newest delete that was dropped
    cdef readonly uint64_t last_version, last_offset  # of the last record copied or dropped
    cdef readonly uint64_t living   # bytes of this segment's records that the index pointed to
    cdef bint has_marked_gaps       # in its versions; a compacted segment has others
    cdef Pacer pacer

    def __cinit__(self, store: Writer, *, now: float, keep_after: int, drop_deletes: bool) -> None:
        self.store, self.now = store, now
        self.keep_after, self.drop_deletes = keep_after, drop_deletes
        self.pacer = Pacer(
            store, throttles=(<object>store).is_compacting_in_background)
        self.found = <Found *>malloc(CHUNK_RECORDS * sizeof(Found))
        if self.found == NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.found)
        free(self.moved)

    def begin(self, first_version: int, *, has_marked_gaps: bool) -> None:
        """The next records are those of another segment, from its beginning on."""
        self.living, self.last_version = 0, first_version - 1
        self.has_marked_gaps = has_marked_gaps

    def copy(
        self, segment_id: int, offset: int, output: MappedFile, number: int, salt: int, end: int,
    ) -> tuple[int, int]:
        """Copy the next few megabytes of a segment behind `end` of an output.

        Returns (offset in the segment, end of the output) after it.  The segment is done when
        the offset is its end.
        """
        cdef uint64_t slot = self.store.segments.slots[segment_id]
        cdef Segment *row = &self.store.segments.rows[slot]
        cdef MappedFile source = self.store.segments.file(slot)  # holds the mapping
        cdef Target target = Target(number, salt, end)
        cdef Piece piece = Piece(offset, offset, 0, 0)
        cdef uint64_t limit = min(piece.stop + COPY_BYTES, row.end)
        cdef bint is_last = False
        with nogil:
            self._find(row, source, &piece)
            self.pacer.ask()
        while not is_last:
            self.pacer.begin()
            if piece.code < 0:
                raise damage(piece.code, source.name, piece.stop, "other bytes")
            self._judge(row, source, slot, piece.n)
            self._make_room(piece.n)
            is_last = piece.stop >= limit
            self.pacer.measure()
            with nogil:
                self._write(row, slot, &piece, output, &target)
                if not is_last:
                    self._find(row, source, &piece)
                self.pacer.ask()
        self.pacer.begin()
        return piece.stop, target.end

    # -- one piece

    cdef void _find(self, Segment *row, MappedFile source, Piece *piece) noexcept nogil:
        """Find the next piece."""
        piece.start = piece.stop
        piece.n = find_records(
            row, source, piece.start, self.store.seed, self.pacer, self.found, &piece.stop,
            &piece.code)

    cdef int _write(
        self, Segment *row, uint64_t slot, const Piece *piece, MappedFile output, Target *target,
    ) except -1 nogil:
        """Write the chosen records of a piece behind the end of the output."""
        cdef char *buffer = <char *>malloc(piece.stop - piece.start + 16)
        cdef uint64_t size
        cdef int code = 0
        if buffer == NULL:
            raise MemoryError
        size = self._pack(
            row, slot, piece.n, buffer, target.number, target.salt, target.end)
        try:
            if output.hook is None:
                code = write_fully(output.fd, buffer, size, target.end)
            elif size:
                with gil:
                    output.write_at(buffer, size, target.end)
        finally:
            free(buffer)
        if code:
            with gil:
                raise storage_error(
                    code, f"cannot write {size} bytes at {target.end}", output.name)
        target.end += size
        output.size_bytes = max(output.size_bytes, target.end)
        return 0

    cdef int _make_room(self, Py_ssize_t n) except -1:
        """Have room to note down `n` more records."""
        cdef Moved *moved
        cdef uint64_t room = self.moved_count + n
        if room > self.moved_room:
            room = max(room, 2 * self.moved_room)
            moved = <Moved *>realloc(self.moved, room * sizeof(Moved))
            if moved == NULL:
                raise MemoryError
            self.moved, self.moved_room = moved, room
        return 0

    cdef int _judge(
        self, Segment *row, MappedFile source, uint64_t slot, Py_ssize_t n
    ) except -1:
        """Decide for each record found whether it is copied."""
        cdef Py_ssize_t i
        cdef uint64_t version
        cdef const Header *header
        cdef Found *found
        cdef bint expired
        for i in range(n):
            kv_prefetch(home_line(self.store.index, self.found[i].hash))
        for i in range(n):
            found = &self.found[i]
            header = <const Header *>(row.base + found.offset)
            version = version_of(header)
            if version <= self.last_version or self.has_marked_gaps and (
                (version != self.last_version + 1) != (flags_of(header) & GAP != 0)
            ):
                raise damage(BAD_VERSION, source.name, found.offset, version)
            self.last_version, self.last_offset = version, found.offset
            if kind_of(header) == DELETE:
                found.verdict = COPY
                if self._may_forget(self.last_version):
                    found.verdict = SKIP
                    self.forgotten = max(self.forgotten, self.last_version)
            elif self.store.index.find_address(
                found.hash, make_address(slot, found.offset)
            ) == NULL:
                found.verdict = SKIP
            else:
                expired = flags_of(header) & EXPIRES and expiry_of(header) <= self.now
                found.verdict = DELETED if expired else COPY
                self.living += size_of(header)
        return 0

    cdef bint _may_forget(self, uint64_t version) noexcept nogil:
        return self.drop_deletes and version <= self.keep_after

    cdef uint64_t _pack(
        self, Segment *row, uint64_t slot, Py_ssize_t n, char *buffer, uint64_t number,
        uint64_t salt, uint64_t end,
    ) noexcept nogil:
        """Encode the chosen records into the buffer as they will lie behind `end`."""
        cdef uint64_t written = 0, size
        cdef Py_ssize_t i
        cdef const Header *header
        cdef Found *found
        cdef int kind
        cdef bint is_deleted
        for i in range(n):
            if i % HOLD_BACK_RECORDS == 0:
                self.pacer.throttle()
            found = &self.found[i]
            if found.verdict == SKIP:
                continue
            header = <const Header *>(row.base + found.offset)
            is_deleted = found.verdict == DELETED
            if is_deleted and self._may_forget(version_of(header)):
                self.forgotten = max(self.forgotten, version_of(header))
                self._note(found, slot, header, 0, 0)
                continue
            kind = DELETE if is_deleted else kind_of(header)
            size = pack_one(buffer + written, header, kind, salt + end + written)
            self._note(found, slot, header, number << 32 | (end + written), size)
            written += size
        return written

    cdef void _note(
        self, Found *found, uint64_t slot, const Header *header, uint64_t target, uint64_t size,
    ) noexcept nogil:
        cdef Moved *moved
        moved = &self.moved[self.moved_count]
        moved.hash, moved.source = found.hash, make_address(slot, found.offset)
        moved.target, moved.size = target, <uint32_t>size
        moved.verdict, moved.kind = <uint8_t>found.verdict, kind_of(header)
        moved.expires = flags_of(header) & EXPIRES
        self.moved_count += 1

    def publish(self, slots: list[int]) -> bool:
        """Let the index point to the next few copies; True when it points to all.

        `slots` gives the slot of each output.  Whatever happens, each copy is counted once: the
        next call goes on where this one ended.
        """
        cdef uint64_t limit = min(self.published + PUBLISH_RECORDS, self.moved_count)
        cdef uint64_t i
        for i in range(self.published, limit):
            kv_prefetch(home_line(self.store.index, self.moved[i].hash))
        while self.published < limit:
            self._redirect(&self.moved[self.published], slots)
            self.published += 1
        if self.published == self.moved_count:
            return True
        self.pacer.yield_gil()
        return False

    cdef int _redirect(self, Moved *moved, list slots) except -1:
        cdef Segment *rows = self.store.segments.rows
        cdef uint64_t target = 0
        cdef uint64_t *entry = NULL
        cdef const Header *header
        cdef uint64_t old_size
        if moved.kind != DELETE:    # first: it may raise, and then nothing is counted yet
            self.store.index.preserve(moved.hash)  # nothing comes between finding and changing
            entry = self.store.index.find_address(moved.hash, moved.source)
        if moved.size:
            target = slots[moved.target >> 32]
            if moved.kind == DELETE or moved.verdict == DELETED:
                rows[target].tombstone_bytes += moved.size
        if entry == NULL:
            return 0
        header = <const Header *>(
            rows[slot_of(moved.source)].base + offset_of(moved.source))
        old_size = size_of(header)
        rows[slot_of(moved.source)].live_bytes -= old_size
        if moved.expires:
            rows[slot_of(moved.source)].expiring_bytes -= old_size
        if moved.verdict == DELETED:
            self.store.index.remove(entry, moved.hash)
            if self.store.groups is not None:
                self.store.groups.add_record(header, -1)
            if self.store.digest_changes is not None:
                self.store.digest_changes.add_record(header, -1)
                if self.store.digest_changes.counted_to > self.store.applied:
                    self.store.digest_changes.invalidate()  # it may have been counted out before
            self.store.removals += 1  # scans must ask the index again
            return 0
        self.store.index.replace(
            entry, moved.hash, make_address(target, moved.target & 0xFFFFFFFF))
        rows[target].live_bytes += moved.size
        if moved.expires:
            rows[target].expiring_bytes += moved.size
            note_expiry(&rows[target], expiry_of(header))
        return 0


cdef Py_ssize_t find_records(
    const Segment *row, MappedFile file, uint64_t start, uint64_t seed, Pacer pacer, Found *found,
    uint64_t *stop, int64_t *code,
) noexcept nogil:
    """List the records from `start` on, up to a few megabytes, checking each."""
    cdef Py_ssize_t n = 0
    cdef uint64_t offset = start
    cdef uint64_t loaded = 0
    cdef int64_t size
    cdef const Header *header
    while n < CHUNK_RECORDS and offset < row.end and offset - start < CHUNK_BYTES:
        if n % HOLD_BACK_RECORDS == 0:
            pacer.throttle()
        if not load_record(file, &loaded, offset, row.end):
            code[0] = UNREADABLE
            break
        size = check(row.base + offset, row.end - offset, row.salt + offset, True)
        if size <= 0:
            code[0] = size if size < 0 else -1
            break
        header = <const Header *>(row.base + offset)
        found[n] = Found(offset, xxh3(key_of(header), header.key_size, seed), SKIP)
        n += 1
        offset += size
    stop[0] = offset
    return n


cdef uint64_t pack_one(
    char *target, const Header *header, int kind, uint64_t seed,
) noexcept nogil:
    """Write a copy of a record, or a delete in its place; return its size."""
    cdef uint8_t flags = flags_of(header) & EXPIRES if kind == PUT else 0
    return encode(
        target, version_of(header), <uint8_t>kind, flags, expiry_of(header),
        key_of(header), header.key_size,
        key_of(header) + header.key_size, header.metadata_size if kind == PUT else 0,
        value_of(header), header.value_size if kind == PUT else 0, seed)
