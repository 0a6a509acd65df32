"""Indexing changes: those about to be written, and those of other processes.

Invariants:

* Nothing here is Python code, raises, or lets other threads run: before and after each function the
  index, and the position in the log of others, are consistent.
* Everything that may fail happens before the first change of the index: memory is reserved, damage
  is found, and a record that must be read from disk is requested (ON_DISK).
* A batch becomes visible, with its version, as a whole.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.order.key_buffer cimport reserve_keys
from kvengine.engine.index.key_index cimport (
    ADDRESS_MASK, COLD, DAMAGED, Table, find, home_line, is_unverified, kv_prefetch,
    points_to_record, reserve_entries, shard_of, table_of,
)
from kvengine.engine.access.log_end cimport (
    BAD_RECORD, BAD_SHARD, BEHIND, CONFLICT, DONE, NOTHING, NO_MEMORY, ON_DISK,
)
from kvengine.engine.log.page cimport ALLOCATED, SEGMENT, load_word
from kvengine.engine.access.reading cimport Reader, checked_record, coarse_ms, version_at
from kvengine.engine.log.record cimport (
    BAD_ENTRY, BAD_VERSION, DELETE, END_OF_LOG, EXPIRES, GAP, MORE, PUT, Header,
    check, expiry_of, flags_of, key_of, kind_of, size_of, version_of,
)
from kvengine.engine.log.segment cimport Segment, make_address, note_expiry, offset_of, slot_of
from kvengine.file.mapped cimport MappedFile

cdef enum:
    GROUP = 64                  # changes whose memory is fetched side by side


cdef int look_up(LogEnd self, Write *write) noexcept:
    """Reserve what show() needs, and bring what it will touch into the caches."""
    cdef Change *change
    cdef uint64_t *entry
    cdef Py_ssize_t i
    cdef int code
    if write.n > 1:
        for i in range(write.n):
            kv_prefetch(home_line(self.index, write.changes[i].hash))
    for i in range(write.n):
        change = &write.changes[i]
        code = seek_entry(self, write, change, &entry)
        if code != DONE:
            return code
        if not write.numbered and (
            write.if_version >= 0 or change.kind == DELETE and write.n == 1
        ):
            write.found = version_at(self.segments.rows, entry, write.moment)
            if write.if_version >= 0 and write.found != <uint64_t>write.if_version:
                return CONFLICT
            if write.found == 0 and change.kind == DELETE and write.n == 1:
                return NOTHING
    return reserve(self, write.changes, write.n)


cdef int seek_entry(LogEnd self, Write *write, const Change *change, uint64_t **entry) noexcept:
    """Find the entry of a key, NULL if it has none, and compare its record with its checksum."""
    cdef uint64_t where = 0
    entry[0] = NULL
    if is_unverified(self.index, change.hash) and not self.index.shard_is_right(
        <Table *>table_of(self.index, change.hash),
        shard_of(table_of(self.index, change.hash), change.hash)
    ):
        return note_damage(self, write, change.hash, 0)
    entry[0] = find(
        self.index, change.hash, change.key, change.key_size, write.waits, &where)
    if entry[0] == &COLD:
        write.offset = where
        return ON_DISK
    if entry[0] == &DAMAGED:
        return note_damage(self, write, change.hash, where)
    if entry[0] != NULL:
        where = entry[0][0] & ADDRESS_MASK
        if checked_record(self.segments.rows, where) == NULL:
            return note_damage(self, write, change.hash, where)
    if self.index.saved != NULL and not self.index.try_preserve(change.hash):
        return NO_MEMORY
    return DONE


cdef int reserve(LogEnd self, const Change *changes, Py_ssize_t n) noexcept:
    cdef uint64_t puts = 0, bytes_of_keys = 0
    cdef Py_ssize_t i
    for i in range(n):
        if changes[i].kind == PUT:
            puts += 1
            bytes_of_keys += changes[i].key_size
    if puts and not (
        reserve_entries(self.index, puts) and reserve_keys(self.order.active, puts, bytes_of_keys)
    ):
        return NO_MEMORY
    return DONE


cdef int note_damage(LogEnd self, Write *write, uint64_t hash, uint64_t address) noexcept:
    """Keep what is said of damage: of a record, or if the address is 0 of the index."""
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
    write.error = <int>check(
        row.base + write.offset, row.end - write.offset, row.salt + write.offset, True)
    return BAD_RECORD


cdef bint show(LogEnd self, const Change *change) noexcept:
    """Let the index point to a record; False: it is damaged where nothing was before."""
    cdef uint64_t where
    cdef uint64_t *entry = find(
        self.index, change.hash, change.key, change.key_size, True, &where)
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef uint64_t address = make_address(self.active_slot, change.offset)
    cdef uint64_t size = change.size
    cdef bint sums = (
        self.digest_changes is not None and change.version > self.digest_changes.counted_to)
    if entry == &DAMAGED:
        return False
    if change.kind == PUT:
        row.live_bytes += size
        if self.groups is not None:
            self.groups.add(
                change.key, change.key_size, change.metadata_size + change.value_size,
                change.expires_at, 1)
        if sums:
            self.digest_changes.add_record(<const Header *>(row.base + change.offset), 1)
        if change.expires_at:
            row.expiring_bytes += size
            note_expiry(row, change.expires_at)
            self.removals += 1
    else:
        row.tombstone_bytes += size
        self.removals += 1
    if entry != NULL:
        count_out(self, entry[0] & ADDRESS_MASK, sums)
        if change.kind == PUT:
            self.index.replace(entry, change.hash, address)
        else:
            self.index.remove(entry, change.hash)
    elif change.kind == PUT:
        self.index.insert_reserved(change.hash, address)
        self.order.active.add_reserved(change.key, <uint32_t>change.key_size, address)
    return True


cdef void count_out(LogEnd self, uint64_t address, bint sums) noexcept:
    """The record at an address is dead from now on."""
    cdef Segment *row = &self.segments.rows[slot_of(address)]
    cdef const Header *header = <const Header *>(row.base + offset_of(address))
    cdef uint64_t size = size_of(header)
    row.live_bytes -= size
    if self.groups is not None:
        self.groups.add_record(header, -1)
    if sums:
        self.digest_changes.add_record(header, -1)
    if flags_of(header) & EXPIRES:
        row.expiring_bytes -= size


# -- what others have written

cdef int take_in(LogEnd self, uint64_t upto, Write *write) noexcept:
    """Follow the log of the active segment up to a version, which is there and visible.

    Where the log has gone on since in another segment, the caller knows that this one has the
    version: what comes behind its last record was never visible, and may be cut off at any moment.

    Returns DONE; BEHIND: this segment has no more records; ON_DISK; or what is wrong.
    """
    cdef int code
    while self.applied < upto:
        if self.active_slot == 0:
            return BEHIND
        code = take_in_batch(self, upto, write)
        if code != DONE:
            return code
    return DONE


cdef int take_in_batch(LogEnd self, uint64_t upto, Write *write) noexcept:
    """Take in whole batches, together at most GROUP changes; or one batch that is longer."""
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef Change[GROUP] changes
    cdef Py_ssize_t n = 0, whole = 0
    cdef uint64_t offset = row.end, version = self.applied, end = row.end, reached = version
    cdef uint64_t limit = self.active.size_bytes
    if load_word(&self.page[SEGMENT]) == row.id:
        limit = self.active.size_bytes = max(limit, load_word(&self.page[ALLOCATED]))
    cdef const Header *header
    cdef int64_t size
    while n < GROUP and version < upto:
        size = check(row.base + offset, limit - offset, row.salt + offset, True)
        if size == END_OF_LOG and n == 0:
            return BEHIND
        header = <const Header *>(row.base + offset)
        if size <= 0 or (
            (version_of(header) != version + 1) != (flags_of(header) & GAP != 0)
            or version_of(header) <= version
        ):
            return note_bad_log(self, write, offset, size)
        describe(&changes[n], header, offset, size, self.seed)
        n += 1
        offset += <uint64_t>size
        version = version_of(header)
        if not flags_of(header) & MORE:
            whole, end, reached = n, offset, version
    if whole == 0:
        return take_in_long_batch(self, limit, write)
    write.changes, write.n = changes, whole
    return take_in_changes(self, write, end, reached)


cdef int take_in_changes(LogEnd self, Write *write, uint64_t end, uint64_t version) noexcept:
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef uint64_t before = row.end
    cdef Py_ssize_t i
    cdef int code
    prefetch(self, write)
    row.end = end  # entries of the same key, twice in a batch, point behind the old end
    code = look_up(self, write)
    if code != DONE:
        row.end = before
        return code
    for i in range(write.n):
        show(self, &write.changes[i])
    self.applied = version
    self.foreign_changes += 1
    self.taken_in += end - before
    if self.commits is not None:
        self.commits.version = version
    return DONE


cdef void prefetch(LogEnd self, Write *write) noexcept:
    cdef Py_ssize_t i
    cdef const char *other
    if write.n < 2:
        return
    for i in range(write.n):
        kv_prefetch(home_line(self.index, write.changes[i].hash))
    for i in range(write.n):
        other = self.first_guess(write.changes[i].hash)
        if other != NULL:
            kv_prefetch(other)
            kv_prefetch(other + 64)
            kv_prefetch(other + 128)


cdef int take_in_long_batch(LogEnd self, uint64_t limit, Write *write) noexcept:
    """Take in one batch that is longer than a group: look at all of it, then show all of it."""
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef uint64_t start = row.end, end = start, version = self.applied
    cdef uint64_t puts = 0, bytes_of_keys = 0
    cdef uint64_t *entry
    cdef Change change
    cdef const Header *header
    cdef int64_t size
    cdef int code
    while True:
        size = check(row.base + end, limit - end, row.salt + end, True)
        header = <const Header *>(row.base + end)
        if size <= 0 or version_of(header) <= version:
            row.end = start
            return note_bad_log(self, write, end, size)
        version = version_of(header)
        describe(&change, header, end, size, self.seed)
        code = seek_entry(self, write, &change, &entry)
        if code != DONE:
            return code
        if change.kind == PUT:
            puts += 1
            bytes_of_keys += change.key_size
        end += <uint64_t>size
        if not flags_of(header) & MORE:
            break
    if puts and not (
        reserve_entries(self.index, puts) and reserve_keys(self.order.active, puts, bytes_of_keys)
    ):
        return NO_MEMORY
    row.end = end
    while start < end:
        header = <const Header *>(row.base + start)
        describe(&change, header, start, size_of(header), self.seed)
        show(self, &change)
        start += size_of(header)
        self.taken_in += size_of(header)
    self.applied = version
    self.foreign_changes += 1
    if self.commits is not None:
        self.commits.version = version
    return DONE


cdef void describe(
    Change *change, const Header *header, uint64_t offset, uint64_t size, uint64_t seed
) noexcept nogil:
    """Say what a record of the log changes."""
    change.kind = kind_of(header)
    change.expires_at = expiry_of(header)
    change.key, change.key_size = key_of(header), header.key_size
    change.metadata_size, change.value_size = header.metadata_size, header.value_size
    change.hash = xxh3(change.key, change.key_size, seed)
    change.version = version_of(header)
    change.offset, change.size = offset, size


cdef int note_bad_log(LogEnd self, Write *write, uint64_t offset, int64_t code) noexcept:
    """Keep what is said of a record that is not what another process wrote.

    Where the log has gone on elsewhere it is not known here how long this segment is: BEHIND.
    """
    cdef MappedFile file = self.segments.file(self.active_slot)
    cdef uint64_t begun = load_word(&self.page[SEGMENT])
    if begun != 0 and begun != self.segments.rows[self.active_slot].id:
        return BEHIND
    Py_INCREF(file)
    write.file, write.offset = <PyObject *>file, offset
    write.error = BAD_VERSION if code > 0 else <int>code
    return BAD_RECORD


def follow_without_page(reader: Reader) -> None:
    """Let a reader of a folder without a control page check for one now and then."""
    reader.published = &reader.applied


def check_is_due(reader: Reader, interval_ms: int) -> bool:
    """True if a reader has not checked its folder for so long; resets the interval."""
    cdef uint64_t now = coarse_ms()
    if now < reader.next_check_ms:
        return False
    reader.next_check_ms = now + <uint64_t>interval_ms
    return True
