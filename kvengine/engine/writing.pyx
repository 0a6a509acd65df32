"""Writing: a record at the end of the log, then an index entry that points to it.

Invariants:

* A write is a follower that has the pen for a moment: it takes in what others have written first.
* Nothing of the index changes before the record is in the log; what publishing needs is reserved
  before the append.  So a failed write changes nothing, and publishing can't fail.
* Others see a version after its records are whole.  What was behind it when its writer was killed
  is never looked at: the log goes on in a new segment (`writing` on the page tells).
* A call makes all of its changes as one batch, visible together.
* With the pen in hand nothing waits: not for the GIL, nor for a record that is on disk.  A large
  write copies without the GIL, passes the pen on, and then follows its own records.
* No Python code runs under the lock: what went wrong is noted there and raised after.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from kvengine.engine.change cimport Change, Write
from kvengine.engine.durable cimport kv_thread
from kvengine.engine.indexing cimport look_up, show, take_in
from kvengine.engine.key_index cimport Table, shard_of, table_of
from kvengine.engine.log_end cimport (
    BAD_RECORD, BAD_SHARD, BEHIND, CONFLICT, DONE, FULL, GONE, LOST, NO_MEMORY, NOTHING, OLD_FORMAT,
    ON_DISK, OUT_OF_ORDER, REFUSED, SYSTEM, UNSYNCED,
)
from kvengine.engine.page cimport (
    ALLOCATED, DURABLE as DURABLE_WORD, FAILED, LOSSES, SEGMENT, SPARSE, VERSION, WRITING,
    load_word, store_word,
)
from kvengine.engine.record cimport (
    BAD_CHECKSUM, DELETE, DURABLE, EXPIRES, GAP, HEADER_BYTES, MORE, aligned, encode,
)
from kvengine.engine.segment cimport SEGMENT_MAP_BYTES, Segment, offset_of, slot_of
from kvengine.file.mapped cimport MappedFile, storage_error, write_fully

from kvengine.engine.record import damage
from kvengine.errors import InvalidRequest, StorageFull, StoreReadOnly, VersionConflict, again

cdef enum:
    GIL_BYTES_MAX = 65536       # larger writes release the GIL
    SMALL_BYTES = 16384         # records up to here are put together on the C stack
    # One call for each larger write is cheaper than what the system does for pages that were
    # stored to, when they are written back.
    IN_PLACE_BYTES_MAX = 4096
    LOOKS_WITHOUT_WAIT = 16     # for records on disk; then it waits with the pen in hand

cdef object INDEX_BEHIND_LOG = StoreReadOnly(
    "the store is read-only: the last change is in the log, but the index could not take it in; "
    "close the store and open it again")


cdef class Writer(LogEnd):
    """A Reader that may also append to the log."""

    def _wake(self) -> None:
        """Wake those who wait for a change; the store overrides it."""

    def _follow_further(self) -> None:
        """Take in what others have written, whatever it takes; the store overrides it."""

    def _convert(self) -> None:
        """Replace a manifest of an older format; the store overrides it."""

    # -- the one way into the log

    cdef int perform(self, Write *write) except -1:
        """Append the changes as one batch and make them visible; `write` says what came of it.

        Raises:
            VersionConflict: `if_version` is not negative and not the version of the first key.
        """
        cdef int code, looks = 0
        cdef bint tried = False
        while True:
            if self.refusal is not None:  # who only reads can't even take the pen
                self._fail(write, REFUSED)
            self.acquire()
            try:
                code = attempt(self, write)  # raises only what a hook of tests does
            finally:
                if not write.passed_on:
                    self.give_pen()
                self.leave()
            if code <= NOTHING:
                break
            try:
                if code == FULL:
                    self._make_segment()
                elif code == ON_DISK:
                    looks += 1
                    write.waits = looks > LOOKS_WITHOUT_WAIT
                    self._bring_in(write.offset)
                else:
                    self._fail(write, code)
            except StorageFull:
                if tried or not self._find_space(only_deletes(write)):
                    raise
                tried = True
        if write.passed_on:
            self.keep_up()
        if write.begun:
            self._has_begun()
        if write.grown:
            self._has_grown()
        return 0

    def _bring_in(self, address: int) -> None:
        """Read the beginning of a record from the disk while other threads run."""
        cdef uint64_t where = address
        cdef uint64_t offset = offset_of(where), end
        if not self.segments.warm(where):
            end = self.segments.rows[slot_of(where)].end
            if end > offset:  # else the segment went meanwhile
                self.segments.file(slot_of(where)).check_readable(offset, min(4096, end - offset))

    cpdef bint keep_up(self) except -1:
        """Take in what was written, here or by others; False inside exclusively().

        What a record that is damaged, or no memory, forbids is raised.
        """
        cdef Write write
        cdef int code, looks = 0
        memset(&write, 0, sizeof(Write))
        write.numbered, write.if_version = True, -1
        while True:
            if self.frozen:
                if self.owner == kv_thread():
                    return False
                self.enter()
                self.leave()
                continue
            code = follow(self, &write)
            if code == DONE:
                return True
            if code == BEHIND:
                self._follow_further()
            elif code == ON_DISK:
                looks += 1
                write.waits = looks > LOOKS_WITHOUT_WAIT
                self._bring_in(write.offset)
            else:
                self._fail(&write, code)

    def keep_up_to(self, version: int) -> bool:
        """Read on in the active segment up to a version that is there; False: it is not."""
        cdef Write write
        cdef int code = DONE
        cdef uint64_t upto = version
        memset(&write, 0, sizeof(Write))
        write.numbered, write.if_version = True, -1
        while self.applied < upto:
            write.waits = True
            code = take_in(self, upto, &write)
            if code == BEHIND:
                return False
            if code != DONE:
                self._fail(&write, code)
        return True

    cdef int _fail(self, Write *write, int code) except -1:
        """Raise what came of a write; the lock was given back."""
        cdef object name = None
        if write.file != NULL:
            name = (<MappedFile>write.file).name
            Py_DECREF(<object>write.file)
            write.file = NULL
        if code == BEHIND:
            self._follow_further()
        elif code == OLD_FORMAT:
            self._convert()
        elif code == CONFLICT:
            raise VersionConflict(write.if_version, write.found)
        elif code == OUT_OF_ORDER:
            raise InvalidRequest(
                f"version {write.changes[0].version} does not come after {write.found}")
        elif code >= SYSTEM:
            raise storage_error(write.error, f"cannot {write.what.decode()}", name)
        elif code == BAD_RECORD:
            code = write.error if write.error < 0 else BAD_CHECKSUM
            raise damage(code, name or "the key index", write.offset, "other bytes")
        elif code == NO_MEMORY:
            raise MemoryError("no memory for a change; nothing was written")
        elif code == GONE:
            self.commits.check_present()
        elif code == UNSYNCED:
            self.commits.refuse_failed()
        elif code == BAD_SHARD:
            self.index.verify_shard(
                <Table *>table_of(self.index, write.found),
                shard_of(table_of(self.index, write.found), write.found))
        elif self.unusable is not None or self.refusal is not None:
            raise again(self.unusable if self.unusable is not None else self.refusal)
        return 0  # it is over: try again


cdef int follow(Writer self, Write *write) noexcept:
    """Take in what is visible; the GIL is held from here to the end."""
    cdef uint64_t version = load_word(&self.page[VERSION])
    if version == self.applied:
        return DONE
    # Loaded after: what this version stands for is in this segment, or the log has gone on.
    if version < self.applied or self.active_slot == 0 or (
        load_word(&self.page[LOSSES]) != self.seen_losses
    ) or (
        load_word(&self.page[SEGMENT]) != self.segments.rows[self.active_slot].id
    ):
        return BEHIND
    return take_in(self, version, write)


cdef int attempt(Writer self, Write *write) except -1:
    """Do it, with the pen in hand.  Up to the append everything may fail, after it nothing."""
    cdef Change *changes = write.changes
    cdef Py_ssize_t i
    cdef int code
    if self.unusable is not None or self.refusal is not None:
        return REFUSED
    if load_word(&self.page[FAILED]):
        return UNSYNCED
    if self.is_old_format:
        return OLD_FORMAT
    if load_word(&self.page[VERSION]) != self.applied:
        code = follow_others(self, write)
        if code != DONE:
            return code
    if write.numbered and changes[0].version <= self.applied:
        write.found = self.applied
        return OUT_OF_ORDER
    write.size = 0
    for i in range(write.n):
        write.size += aligned(
            HEADER_BYTES + 16 + changes[i].key_size + changes[i].metadata_size
            + changes[i].value_size)
    code = make_room(self, write)
    if code == DONE:
        code = look_up(self, write)
    if code == DONE:
        if not write.numbered:
            for i in range(write.n):
                changes[i].version = self.applied + 1 + i
        code = append(self, write)
    if code == DONE and not write.passed_on:
        code = publish(self, write)
    return code


cdef int follow_others(Writer self, Write *write) noexcept:
    """Take in what others have written since."""
    cdef Write other
    cdef int code
    memset(&other, 0, sizeof(Write))
    other.numbered, other.if_version, other.waits = True, -1, write.waits
    code = follow(self, &other)
    write.offset, write.found = other.offset, other.found
    write.file, write.error = other.file, other.error
    return code


cdef int make_room(Writer self, Write *write) except -1:
    """Have the bytes after the end of the log in one segment, allocated on disk."""
    cdef uint64_t end = 0
    cdef int code
    cdef uint64_t begun = load_word(&self.page[SEGMENT])
    cdef bint is_torn = load_word(&self.page[WRITING]) != 0
    if begun > self.known_segment and not is_torn:
        return BEHIND  # another process has begun one, and written nothing yet
    if self.active_slot:
        end = self.segments.rows[self.active_slot].end
    if (
        self.active_slot == 0 or begun != self.segments.rows[self.active_slot].id
        or end >= self.segment_bytes or end + write.size > SEGMENT_MAP_BYTES
        or is_torn  # whoever did it was killed: leave its tail alone
    ):
        if self.commits.is_lost():
            return GONE
        code = self.begin_segment(self.next_segment)
        if code == FULL:
            return FULL
        if code:
            return refused(self, write, code - SYSTEM, self.next_segment.file, "begin a segment")
        write.begun = True
        end = self.segments.rows[self.active_slot].end
    if end + write.size > load_word(&self.page[ALLOCATED]):
        code = self.grow(aligned(end + write.size), only_deletes(write))
        if code:
            return refused(self, write, code, self.active, "grow")
        write.grown = True
        if self.commits.is_lost():  # else nobody syncs, so nobody would notice ("os")
            return GONE
    return DONE


cdef int refused(Writer self, Write *write, int code, MappedFile file, const char *what) noexcept:
    """Keep what _fail() says of a refusal of the system, when the lock is given back."""
    Py_INCREF(file)
    write.file, write.error, write.what = <PyObject *>file, code, what
    return SYSTEM


cdef int append(Writer self, Write *write) except -1:
    """Lay the records out behind the end of the log; nothing points to them yet."""
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef MappedFile active = self.active
    cdef uint64_t start = row.end, size = write.size
    cdef char[SMALL_BYTES] small
    cdef char *target = small
    cdef char *buffer = NULL
    cdef bint in_place = (
        self.store_to_mapping and write.level > 1 and size <= IN_PLACE_BYTES_MAX
        and active.hook is None and not load_word(&self.page[SPARSE]))
    cdef uint64_t end
    cdef int code = 0
    cdef uint8_t first = 0
    if in_place:
        code = self.prepare(start, start + size)
        target = row.base + start
    elif size > SMALL_BYTES:
        target = buffer = <char *>malloc(size)
        if buffer == NULL:
            return NO_MEMORY
    if load_word(&self.page[DURABLE_WORD]) >= self.applied:
        first = DURABLE
    store_word(&self.page[WRITING], 1)
    try:
        if code == 0 and size > GIL_BYTES_MAX and active.hook is None:
            return pass_on_large(self, write, buffer, first)
        if code == 0:
            end = lay_out(target, start, row.salt, write, self.applied, first)
            if not in_place:
                code = active.try_write(target, end, start)
    finally:
        if buffer != NULL:
            free(buffer)
        if code:
            store_word(&self.page[WRITING], 0)
    if code:
        return refused(self, write, code, active, "write")
    row.end = start + end
    self.taken_in += end
    return DONE


cdef int pass_on_large(Writer self, Write *write, char *buffer, uint8_t first) noexcept:
    """Append and publish without the GIL, and pass the pen on: the index follows later."""
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef MappedFile active = self.active
    cdef uint64_t start = row.end, salt = row.salt, before = self.applied, end
    cdef uint64_t version
    cdef int fd = active.fd, code
    with nogil:
        end = lay_out(buffer, start, salt, write, before, first)
        code = write_fully(fd, buffer, end, start)
        if code == 0:
            version = write.changes[write.n - 1].version
            store_word(&self.page[VERSION], version)
        store_word(&self.page[WRITING], 0)
        if code == 0:
            self.give_pen()
    if code:
        return refused(self, write, code, active, "write")
    write.version, write.done, write.passed_on = version, True, True
    return DONE


cdef int publish(Writer self, Write *write) noexcept:
    """Let the index point to the records, which are in the log; nothing may fail any more."""
    cdef Py_ssize_t i
    cdef bint right = True
    for i in range(write.n):
        if not show(self, &write.changes[i]):
            # Rather no more writes than a version that is given twice.
            self.refusal = INDEX_BEHIND_LOG
            right = False
            break
    self.applied = write.version = write.changes[write.n - 1].version
    self.commits.version = self.applied
    store_word(&self.page[VERSION], self.applied)
    store_word(&self.page[WRITING], 0)
    write.done = True
    return DONE if right else LOST


cdef uint64_t lay_out(
    char *target, uint64_t start, uint64_t salt, Write *write, uint64_t before, uint8_t first,
) noexcept nogil:
    """Write records to `target`, behind those up to version `before`; return their size."""
    cdef uint64_t end = 0
    cdef Change *changes = write.changes
    cdef Py_ssize_t i, n = write.n
    cdef uint8_t flags
    for i in range(n):
        flags = (first if i == 0 else 0) | (MORE if i < n - 1 else 0)
        if changes[i].expires_at:
            flags |= EXPIRES
        if changes[i].version != before + 1:
            flags |= GAP
        before = changes[i].version
        changes[i].offset = start + end
        changes[i].size = encode(
            target + end, changes[i].version, <uint8_t>changes[i].kind, flags,
            changes[i].expires_at, changes[i].key, <uint16_t>changes[i].key_size,
            changes[i].metadata, <uint16_t>changes[i].metadata_size,
            changes[i].value, <uint32_t>changes[i].value_size, salt + start + end)
        end += changes[i].size
    return end


cdef bint only_deletes(const Write *write) noexcept nogil:
    """True if a write makes the store smaller, in the end."""
    cdef Py_ssize_t i
    for i in range(0 if write.makes_room else write.n):
        if write.changes[i].kind != DELETE:
            return False
    return True
