"""Writing: a record at the end of the log, then an index entry that points to it.

Invariants:

* A write is a follower that takes the write lock for a moment: first it catches up with other
  processes.
* The index changes only after the record is in the log, and everything that publishing needs is
  reserved before the append.  So a failed write changes nothing, and publishing can't fail.
* Others see a version only after its records are complete.  Bytes after it that a killed writer
  left are never read: the log continues in a new segment (`writing` on the page tells).
* A call makes all of its changes as one batch, visible together.
* The holder of the write lock waits for nothing: neither for the GIL nor for a record on disk.  A
  large write copies without the GIL, passes the write lock on, and then follows its own records.
* No Python code runs under the lock: errors are recorded there and raised later.
"""

from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint64_t
from libc.string cimport memset

from kvengine.engine.access.appending cimport append, make_room, only_deletes, publish
from kvengine.engine.access.change cimport Change, Write
from kvengine.engine.log.durable cimport kv_thread
from kvengine.engine.access.indexing cimport look_up, take_in
from kvengine.engine.index.key_index cimport Table, shard_of, table_of
from kvengine.engine.access.log_end cimport (
    BAD_RECORD, BAD_SHARD, BEHIND, CONFLICT, DONE, FULL, GONE, NO_MEMORY, NOTHING, OLD_FORMAT,
    ON_DISK, OUT_OF_ORDER, REFUSED, SYSTEM, UNSYNCED,
)
from kvengine.engine.log.page cimport FAILED, GENERATION, LOSSES, SEGMENT, VERSION, load_word
from kvengine.engine.log.record cimport BAD_CHECKSUM, HEADER_BYTES, aligned
from kvengine.engine.log.segment cimport SegmentTable
from kvengine.file.mapped cimport MappedFile, storage_error

from kvengine.engine.log.record import damage
from kvengine.errors import InvalidRequest, StorageFull, VersionConflict, copied_error

cdef enum:
    ATTEMPTS_WITHOUT_WAIT = 16     # for records on disk; then it waits with the write lock held


cdef class Writer(LogEnd):
    """A Reader that may also append to the log."""

    def _wake(self) -> None:
        """Wake threads that wait for a change; the store overrides it."""

    def _follow_further(self) -> None:
        """Take in what others have written, whatever it takes; the store overrides it."""

    def _convert(self) -> None:
        """Replace a manifest of an older format; the store overrides it."""

    # -- the one way into the log

    cdef int perform(self, Write *write) except -1:
        """Append the changes as one batch and make them visible; `write` says what came of it.

        Raises:
            VersionConflict: `if_version` is not negative and not the version of each key.
        """
        cdef int code, looks = 0
        cdef bint tried = False
        cdef SegmentTable table
        while True:
            if self.refusal is not None:  # readers can't even take the write lock
                self.notice_fork()
                if self.refusal is not None:
                    self._fail(write, REFUSED)
            self.acquire()
            try:
                code = attempt(self, write)  # raises only what a hook of tests does
            finally:
                if not write.passed_on:
                    self.release_write_lock()
                self.leave()
            if code <= NOTHING:
                break
            if write.begun:  # what it was begun for may fail now
                write.begun = False
                self._has_begun()
            try:
                if code == FULL:
                    self._make_segment()
                elif code == ON_DISK:
                    looks += 1
                    write.waits = looks > ATTEMPTS_WITHOUT_WAIT
                    table = self.segments  # another thread may start over meanwhile
                    table.bring_in(write.offset)
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

    cdef bint try_catch_up(self) noexcept:
        """Read on in the active segment; False: there is more to see to than that."""
        cdef Write write
        cdef bint is_done
        if self.frozen or self.followed != load_word(&self.page[GENERATION]) + 1:
            return False
        memset(&write, 0, sizeof(Write))
        write.numbered, write.if_version = True, -1
        is_done = follow(self, &write) == DONE
        if write.file != NULL:  # damage: keep_up() tells of it
            Py_DECREF(<object>write.file)
        return is_done

    def has_followed(self, generation: int) -> None:
        """While the files of the page's generation are known here, reads may use try_catch_up()."""
        self.followed = <uint64_t>generation + 1

    cpdef bint keep_up(self) except -1:
        """Take in what was written, here or by others; False inside exclusively().

        What a record that is damaged, or no memory, forbids is raised.
        """
        cdef Write write
        cdef SegmentTable table
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
                write.waits = looks > ATTEMPTS_WITHOUT_WAIT
                table = self.segments  # another thread may start over meanwhile
                table.bring_in(write.offset)
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
            if self.frozen and self.owner != kv_thread():
                self.enter()
                self.leave()
                continue
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
            raise copied_error(self.unusable if self.unusable is not None else self.refusal)
        return 0  # it is over: try again


cdef int follow(Writer self, Write *write) noexcept:
    """Take in what is visible; the GIL is held from here to the end."""
    cdef uint64_t version = load_word(&self.page[VERSION])
    if version == self.applied:
        return DONE
    if load_word(&self.page[LOSSES]) != self.seen_losses:
        return BEHIND
    if version < self.applied:  # a takeover was killed before the page said so
        return DONE
    # Loaded after: what this version stands for is in this segment, or the log has gone on.
    if self.active_slot == 0 or (
        load_word(&self.page[SEGMENT]) != self.segments.rows[self.active_slot].id
    ):
        return BEHIND
    return take_in(self, version, write)


cdef int attempt(Writer self, Write *write) except -1:
    """Do it, with the write lock held.  Up to the append everything may fail, after it nothing."""
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
