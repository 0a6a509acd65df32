"""Writing: a change becomes a record at the end of the log, then the index points to it.

Invariants:

* Versions are given in the order in which records lie in the log, and grow by one; only where a
  replica took changes over as its source numbered them may some be missing, and a flag says so.
* A change is visible to readers of this process when its record is whole, to other processes when
  the control page says so, and acknowledged when it is as durable as was asked for.
* A batch becomes visible at once: between its first and its last index entry the GIL is held.
* A write that fails leaves nothing behind that a reader or a recovery could take for a change:
  what its index entries need is reserved before the append, and after it nothing can fail.
* One thread writes at a time, and no Python code runs meanwhile: what went wrong is noted, and
  raised when the lock was given back.  The GIL may be released, so what was looked up in the index
  before is looked up again after.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc

from kvengine.engine.durable cimport kv_load, kv_publish
from kvengine.engine.key_buffer cimport reserve_keys
from kvengine.engine.key_index cimport (
    ADDRESS_MASK, COLD, DAMAGED, Table, find, home_line, points_to_record, reserve_entries,
    shard_of, table_of,
    kv_prefetch,
)
from kvengine.engine.log_end cimport (
    BAD_RECORD, BAD_SHARD, CONFLICT, DONE, FULL, GONE, LOST, NO_MEMORY, NOTHING, OUT_OF_ORDER,
    REFUSED, SYSTEM,
)
from kvengine.engine.reading cimport checked_record, seek, version_at
from kvengine.engine.record cimport (
    BAD_CHECKSUM, BAD_ENTRY, DELETE, DURABLE, EXPIRES, GAP, HEADER_BYTES, MORE, PUT, UNREADABLE,
    Header, aligned, check, encode, flags_of, size_of,
)
from kvengine.engine.segment cimport (
    SEGMENT_MAP_BYTES, Segment, make_address, note_expiry, offset_of, slot_of,
)
from kvengine.file.mapped cimport storage_error

from kvengine.engine.record import damage
from kvengine.errors import InvalidRequest, StorageFull, StoreReadOnly, VersionConflict, again

cdef enum:
    GIL_BYTES_MAX = 65536       # larger writes release the GIL
    SMALL_BYTES = 16384         # records up to here are put together on the C stack
    # One call for each larger write is cheaper than what the system does for pages that were
    # stored to, when they are written back.
    IN_PLACE_BYTES_MAX = 4096

cdef object INDEX_BEHIND_LOG = StoreReadOnly(
    "the store is read-only: the last change is in the log, but the index could not take it in; "
    "close the store and open it again")


cdef class Writer(LogEnd):
    """A Reader that may also append to the log."""

    def __cinit__(self, *args, **kwargs) -> None:
        self.bell = &self.no_bell

    def _wake(self) -> None:
        """Wake those who wait for a change; the store overrides it."""

    # -- the one way into the log

    cdef int perform(self, Write *write) except -1:
        """Append the changes as one batch and make them visible; `write` says what came of it.

        Raises:
            VersionConflict: `if_version` is not negative and not the version of the first key.
        """
        cdef int code
        cdef bint tried = False
        while True:
            self.acquire()
            try:
                code = attempt(self, write)  # raises only what a hook of tests does
            finally:
                self.release()
            if code <= NOTHING:
                break
            try:
                if code == FULL:
                    self._make_segment()
                else:
                    self._fail(write, code)
            except StorageFull:
                if tried or not self._find_space(only_deletes(write)):
                    raise
                tried = True
        if write.begun:
            self._has_begun()
        if write.grown:
            self._has_grown()
        return 0

    cdef int _fail(self, Write *write, int code) except -1:
        """Raise what came of a write; the lock was given back."""
        cdef object name = None
        if write.file != NULL:
            name = (<MappedFile>write.file).name
            Py_DECREF(<object>write.file)
            write.file = NULL
        if code == CONFLICT:
            raise VersionConflict(write.if_version, write.found)
        if code == OUT_OF_ORDER:
            raise InvalidRequest(
                f"version {write.changes[0].version} does not come after {write.found}")
        if code == SYSTEM:
            raise storage_error(write.error, f"cannot {write.what.decode()}", name)
        if code == BAD_RECORD:
            code = write.error if write.error < 0 else BAD_CHECKSUM
            raise damage(code, name or "the key index", write.offset, "other bytes")
        if code == NO_MEMORY:
            raise MemoryError("no memory for a change; nothing was written")
        if code == GONE:
            self.commits.check_present()
        elif code == BAD_SHARD:
            self.index.verify_shard(
                <Table *>table_of(self.index, write.found),
                shard_of(table_of(self.index, write.found), write.found))
        elif self.unusable is not None or self.refusal is not None:
            raise again(self.unusable if self.unusable is not None else self.refusal)
        return 0  # it is over: try again


cdef int attempt(Writer self, Write *write) except -1:
    """Do it, under the lock.  Up to the append everything may fail, after it nothing."""
    cdef Change *changes = write.changes
    cdef Py_ssize_t i
    cdef int code
    if self.unusable is not None or self.refusal is not None:
        return REFUSED
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
    if code == DONE:
        code = publish(self, write)
    return code


cdef int make_room(Writer self, Write *write) except -1:
    """Have the bytes after the end of the log in one segment, allocated on disk."""
    cdef uint64_t end = 0
    cdef int code
    if self.active_slot:
        end = self.segments.rows[self.active_slot].end
    if (
        self.active_slot == 0 or end >= self.segment_bytes
        or end + write.size > SEGMENT_MAP_BYTES
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
    if end + write.size > self.active.size_bytes:
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


cdef int look_up(Writer self, Write *write) noexcept:
    """Reserve what publish() needs, and bring what it will touch into the caches.

    What it finds is looked up again after: other threads may run meanwhile.
    """
    cdef Change *change
    cdef uint64_t *entry
    cdef uint64_t where, puts = 0, bytes_of_keys = 0
    cdef Py_ssize_t i
    if write.n > 1:
        for i in range(write.n):
            kv_prefetch(home_line(self.index, write.changes[i].hash))
    for i in range(write.n):
        change = &write.changes[i]
        entry = seek(self, change.hash, change.key, change.key_size, &where)
        if entry == &DAMAGED or entry == &COLD:
            return note_damage(self, write, change.hash, where, entry == &COLD)
        if entry != NULL:
            where = entry[0] & ADDRESS_MASK
            if checked_record(self.segments.rows, where) == NULL:
                return note_damage(self, write, change.hash, where, False)
        if not write.numbered and i == 0 and (
            write.if_version >= 0 or change.kind == DELETE and write.n == 1
        ):
            write.found = version_at(self.segments.rows, entry, write.moment)
            if write.if_version >= 0 and write.found != <uint64_t>write.if_version:
                return CONFLICT
            if write.found == 0 and change.kind == DELETE:
                return NOTHING
        if self.index.saved != NULL and not self.index.try_preserve(change.hash):
            return NO_MEMORY
        if change.kind == PUT:
            puts += 1
            bytes_of_keys += change.key_size
    if puts and not (
        reserve_entries(self.index, puts)
        and reserve_keys(self.order.active, puts, bytes_of_keys)
    ):
        return NO_MEMORY
    return DONE


cdef int note_damage(
    Writer self, Write *write, uint64_t hash, uint64_t address, bint unreadable,
) noexcept:
    """Keep what _fail() says of damage: of a record, or if the address is 0 of the index."""
    cdef Segment *row = &self.segments.rows[slot_of(address)]
    cdef MappedFile file
    write.found, write.offset = hash, offset_of(address)
    if address == 0:
        return BAD_SHARD
    if not points_to_record(self.segments.rows, address):
        write.error = BAD_ENTRY
        return BAD_RECORD
    file = self.segments.file(slot_of(address))
    Py_INCREF(file)
    write.file = <PyObject *>file
    write.error = UNREADABLE if unreadable else <int>check(
        row.base + write.offset, row.end - write.offset, row.salt + write.offset, True)
    return BAD_RECORD


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
        and active.hook is None and not active.sparse)
    cdef uint64_t end
    cdef int code = 0
    if in_place:
        code = active.try_prepare(start, start + size)
        target = row.base + start
    elif size > SMALL_BYTES:
        target = buffer = <char *>malloc(size)
        if buffer == NULL:
            return NO_MEMORY
    cdef uint8_t first = 0
    if kv_load(&self.commits.synced) == self.commits.appended:
        first = DURABLE
    try:
        if code == 0:
            if size > GIL_BYTES_MAX:
                with nogil:
                    end = lay_out(target, start, row.salt, write, self.applied, first)
            else:
                end = lay_out(target, start, row.salt, write, self.applied, first)
            if not in_place:
                code = active.try_write(target, end, start)
    finally:
        free(buffer)
    if code:
        return refused(self, write, code, active, "write")
    row.end = start + end
    kv_publish(&self.commits.appended, self.commits.appended + end)
    return DONE


cdef int publish(Writer self, Write *write) noexcept:
    """Let the index point to the records, which are in the log; nothing may fail any more."""
    cdef Py_ssize_t i
    for i in range(write.n):
        if not show(self, &write.changes[i]):
            # Rather no more writes than a version that is given twice.
            self.refusal = INDEX_BEHIND_LOG
            return LOST
    self.applied = write.version = write.changes[write.n - 1].version
    kv_publish(&self.commits.version, self.applied)
    if self.control != NULL:
        kv_publish(self.control, self.applied)
    write.ticket = self.commits.appended
    return DONE


cdef bint show(Writer self, Change *change) noexcept:
    """Let the index point to a record; False: it is damaged where nothing was before."""
    cdef uint64_t where
    cdef uint64_t *entry = find(
        self.index, change.hash, change.key, change.key_size, True, &where)
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef uint64_t address = make_address(self.active_slot, change.offset)
    cdef uint64_t size = change.size
    if entry == &DAMAGED:
        return False
    if change.kind == PUT:
        row.live_bytes += size
        if self.groups is not None:
            self.groups.add(
                change.key, change.key_size, change.metadata_size + change.value_size,
                change.expires_at, 1)
        if self.digest_changes is not None:
            self.digest_changes.add_record(<const Header *>(row.base + change.offset), 1)
        if change.expires_at:
            row.expiring_bytes += size
            note_expiry(row, change.expires_at)
            self.removals += 1
    else:
        row.tombstone_bytes += size
        self.removals += 1
    if entry != NULL:
        count_out(self, entry[0] & ADDRESS_MASK)
        if change.kind == PUT:
            self.index.replace(entry, change.hash, address)
        else:
            self.index.remove(entry, change.hash)
    elif change.kind == PUT:
        self.index.insert_reserved(change.hash, address)
        self.order.active.add_reserved(change.key, <uint32_t>change.key_size, address)
    return True


cdef void count_out(Writer self, uint64_t address) noexcept:
    """The record at an address is dead from now on."""
    cdef Segment *row = &self.segments.rows[slot_of(address)]
    cdef const Header *header = <const Header *>(row.base + offset_of(address))
    cdef uint64_t size = size_of(header)
    row.live_bytes -= size
    if self.groups is not None:
        self.groups.add_record(header, -1)
    if self.digest_changes is not None:
        self.digest_changes.add_record(header, -1)
    if flags_of(header) & EXPIRES:
        row.expiring_bytes -= size


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
