"""Reading: from a key to its value with one line of the index and one record.

Invariants:

* Bytes are returned only after their checksum was verified: on each read up to 4 KiB, above that on
  the first read since the record was loaded into memory (on each read with verify="always").
* Reads of small values in memory keep the GIL and make no system call.  Before a record is touched
  that may have to be read from disk, the GIL is released.
* Nothing is read past the end of a segment, whatever a damaged record says.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from kvengine.clock cimport is_system_clock, seconds_since_epoch, time_is_real
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.key_index cimport (
    ADDRESS_MASK, COLD, DAMAGED, find, home_line, is_unverified, is_warm, record_at, shard_of,
    points_to_record, table_of, Table, tag_of, DISTANCE_BITS, kv_lowest_bit,
    kv_prefetch, matches_in,
)
from kvengine.engine.index.keys cimport checked_key
from kvengine.engine.log.record cimport (
    BAD_ENTRY, BAD_VALUE, EXPIRES, LARGE, check, expiry_of, flags_of, key_of,
    value_is_right, value_of, version_of,
)
from kvengine.engine.log.segment cimport offset_of, slot_of
from kvengine.engine.access.view cimport view_of
from kvengine.entry cimport new_row, set_field
from kvengine.file.mapped cimport MappedFile

from kvengine.engine.log.record import damage
from kvengine.entry import Entry
from kvengine.errors import copied_error

cdef enum:
    GROUP = 64                  # keys of get_many() whose memory is fetched side by side


cdef inline uint64_t *lookup(
    Reader self, uint64_t hash, const char *key, uint64_t size,
) except? NULL:
    """Return the index entry of a key, or NULL; locate() sees to what is out of the ordinary."""
    cdef uint64_t where
    cdef uint64_t *entry
    if not is_unverified(self.index, hash):
        entry = find(self.index, hash, key, size, False, &where)
        if entry != &COLD and entry != &DAMAGED:
            return entry
    return self.locate(hash, key, size)


cdef class Reader:
    """A hash index over segments, and everything that only reads.

    Thread-safety: threads may share it; each call holds the GIL but for disk reads and large
    copies, and keeps the file alive meanwhile.
    """

    def __cinit__(self, *args, **kwargs) -> None:
        self.published = NULL
        self.foreign_changes = 1

    cdef int begin(self) except -1:
        """Refuse a store that can't be used; let a follower catch up."""
        if self.unusable is not None:
            self._refuse_use()
        if self.published != NULL and (
            kv_acquire(self.published) != self.applied and not self.try_catch_up()
            or self.looks and coarse_ms() >= self.next_check_ms
        ):
            self._follow()
        return 0

    cdef bint try_catch_up(self) noexcept:
        """Catch up with the writers if that needs no Python code; False if it does."""
        return False

    def _refuse_use(self) -> None:
        """Raise the reason why the store can't be used; reopenable stores override it."""
        raise copied_error(self.unusable)

    def _follow(self) -> None:
        """Catch up with the writers; followers override it."""

    cdef double now(self) except? -1:
        """Return the time; where asks_system() is true, no Python code runs meanwhile."""
        return seconds_since_epoch() if self.asks_system() else self.clock.time()

    cdef bint asks_system(self) noexcept:
        """True if the clock is the system's and was not replaced."""
        return self.is_system_clock and time_is_real()

    # -- finding

    cdef object damaged(self, uint64_t address):
        """Return the error for a record that is not what was written, or that of another key."""
        cdef uint64_t offset = offset_of(address)
        cdef Segment *row = &self.segments.rows[slot_of(address)]
        cdef MappedFile file = self.segments.file(slot_of(address))
        if not points_to_record(self.segments.rows, address):
            return damage(BAD_ENTRY, "the key index", 0, hex(address))
        code = check(row.base + offset, row.end - offset, row.salt + offset, True)
        return damage(code, file.name, offset, "other bytes")

    cdef uint64_t *locate(self, uint64_t hash, const char *key, uint64_t size) except? NULL:
        """Return the index entry of a key, or NULL."""
        cdef uint64_t where = 0
        cdef SegmentTable table
        cdef uint64_t *entry = seek(self, hash, key, size, &where)
        if entry == &DAMAGED:
            self.index.verify_shard(
                <Table *>table_of(self.index, hash), shard_of(table_of(self.index, hash), hash))
            raise self.damaged(where)
        if entry == &COLD:
            table = self.segments  # a follower may get another one meanwhile
            table.bring_in(where)
            return self.locate(hash, key, size)  # now it can be read
        return entry

    cdef const Header *checked(self, uint64_t address) except NULL:
        """Return the record at an address after comparing its first checksum."""
        cdef const Header *header = checked_record(self.segments.rows, address)
        if header == NULL:
            raise self.damaged(address)
        return header

    cdef const Header *current(
        self, uint64_t hash, const char *key, uint64_t size, uint64_t *address,
    ) except? NULL:
        """Return the checked, unexpired record of a key and its address, or NULL."""
        cdef uint64_t *entry = lookup(self, hash, key, size)
        cdef const Header *header
        cdef double moment
        if entry == NULL:
            return NULL
        header = self.checked(entry[0] & ADDRESS_MASK)
        if flags_of(header) & EXPIRES:
            if self.asks_system():
                if expiry_of(header) <= seconds_since_epoch():
                    return NULL
                address[0] = entry[0] & ADDRESS_MASK
                return header
            # The clock is Python code: other threads may run, and the record may move, meanwhile.
            moment = self.now()
            entry = lookup(self, hash, key, size)
            if entry == NULL:
                return NULL
            header = self.checked(entry[0] & ADDRESS_MASK)
            if flags_of(header) & EXPIRES and expiry_of(header) <= moment:
                return NULL
        address[0] = entry[0] & ADDRESS_MASK
        return header

    cdef bint would_block(self, uint64_t hash, const char *key, uint64_t size) except -1:
        """True if reading the value of a key may need the disk, or is a large copy."""
        cdef uint64_t where
        cdef uint64_t *entry
        cdef const Header *header
        if self.published != NULL and kv_acquire(self.published) != self.applied:
            return True
        if is_unverified(self.index, hash):
            return True
        entry = find(self.index, hash, key, size, False, &where)
        if entry == NULL or entry == &DAMAGED:
            return False
        if entry == &COLD:
            return True
        where = entry[0] & ADDRESS_MASK
        header = self.checked(where)
        return flags_of(header) & LARGE and not is_at_hand(self.segments.rows, header, where)

    cdef object value_at(self, const Header *header, uint64_t address):
        """Return the value of a checked record as bytes."""
        if not flags_of(header) & LARGE:
            return PyBytes_FromStringAndSize(value_of(header), header.value_size)
        return self._large_value(header, address)

    cdef object _large_value(self, const Header *header, uint64_t address):
        """Copy a value above 4 KiB; check it unless that was done since it came into memory."""
        cdef SegmentTable table = self.segments  # a follower may get another one meanwhile
        cdef Segment *row = &table.rows[slot_of(address)]
        cdef MappedFile file = table.file(slot_of(address))  # holds the mapping
        cdef uint64_t offset = offset_of(address)
        cdef uint64_t seed = row.salt + offset
        cdef uint8_t *verified = &row.verified[offset >> 15]
        cdef uint8_t bit = <uint8_t>(1 << (offset >> 12 & 7))
        cdef bint check_it = self.verify_always or not verified[0] & bit
        cdef bint right = True
        cdef bytes value = PyBytes_FromStringAndSize(NULL, header.value_size)
        cdef char *target = PyBytes_AS_STRING(value)
        cdef const char *source = value_of(header)
        if is_at_hand(table.rows, header, address):
            if check_it:
                right = value_is_right(header, seed)
            memcpy(target, source, header.value_size)
        else:
            file.fetch(offset, size_of(header))
            with nogil:
                if check_it:
                    right = value_is_right(header, seed)
                memcpy(target, source, header.value_size)
        if not right:
            raise damage(BAD_VALUE, file.name, offset, "other bytes")
        if check_it and row.base == file.base:
            verified[0] |= bit
        return value

    # -- what calls.pyx offers to users

    cdef object read_value(self, object key, object default):
        """Return the value of a key, or `default`."""
        cdef bytes name = checked_key(key)
        cdef uint64_t hash = xxh3(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), self.seed)
        if is_behind(self):
            self.begin()
        cdef uint64_t address
        cdef const Header *header = self.current(
            hash, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &address)
        if header == NULL:
            return default
        if flags_of(header) & LARGE:
            return self._large_value(header, address)
        return PyBytes_FromStringAndSize(value_of(header), header.value_size)

    cdef list read_many(self, object keys):
        """Return the values of many keys in their order, None for each that is absent."""
        cdef list names = keys if type(keys) is list else list(keys)
        cdef list values = []
        cdef Py_ssize_t start
        self.begin()
        for start in range(0, len(names), GROUP):
            self._get_group(names, start, min(start + GROUP, len(names)), values)
        return values

    cdef int _get_group(self, list names, Py_ssize_t start, Py_ssize_t end, list values) except -1:
        cdef uint64_t[GROUP] hashes
        cdef list group = [None] * (end - start)
        cdef Py_ssize_t i
        cdef bytes name
        cdef uint64_t address
        cdef const char *record
        cdef const Header *header
        for i in range(end - start):
            name = checked_key(names[start + i])
            group[i] = name
            hashes[i] = xxh3(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), self.seed)
            kv_prefetch(home_line(self.index, hashes[i]))
        for i in range(end - start):
            record = self.first_guess(hashes[i])
            if record != NULL:
                kv_prefetch(record)
                kv_prefetch(record + 64)
                kv_prefetch(record + 128)
        for i in range(end - start):
            header = self.current(
                hashes[i], PyBytes_AS_STRING(group[i]), PyBytes_GET_SIZE(group[i]), &address)
            values.append(None if header == NULL else self.value_at(header, address))
        return 0

    cdef const char *first_guess(self, uint64_t hash) noexcept:
        """Return where the first entry in a key's own bucket points, if that is in memory."""
        cdef uint64_t *line = home_line(self.index, hash)
        cdef unsigned int matches = matches_in(line, tag_of(hash) << DISTANCE_BITS)
        cdef uint64_t address
        if matches and not is_unverified(self.index, hash):  # damage may point anywhere
            address = line[kv_lowest_bit(matches)] & ADDRESS_MASK
            if address and is_warm(self.segments.rows, address):
                return <const char *>record_at(self.segments.rows, address)
        return NULL

    cdef object read_entry(self, object key):
        """Return the Entry of a key, or None."""
        cdef bytes name = checked_key(key)
        cdef uint64_t hash = xxh3(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), self.seed)
        cdef uint64_t address
        self.begin()
        cdef const Header *header = self.current(
            hash, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &address)
        if header == NULL:
            return None
        return self.entry_at(name, header, address)

    cdef object entry_at(self, bytes name, const Header *header, uint64_t address):
        """Return the Entry of a checked record."""
        cdef double expires_at = expiry_of(header)
        cdef uint64_t version = version_of(header)
        cdef const char *start = key_of(header) + header.key_size
        cdef bytes metadata = PyBytes_FromStringAndSize(start, header.metadata_size)
        # The value last: copying a large one lets other threads run, and the record may move.  So
        # does making a row: a collection may come.
        cdef bytes value = self.value_at(header, address)
        cdef object entry = new_row(Entry, 5)
        set_field(entry, 0, name)
        set_field(entry, 1, value)
        set_field(entry, 2, metadata)
        set_field(entry, 3, expires_at if expires_at else None)
        set_field(entry, 4, version)
        return entry

    cdef object read_view(self, object key):
        """Return the value of a key as a memoryview, or None."""
        cdef bytes name = checked_key(key)
        cdef uint64_t hash = xxh3(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), self.seed)
        cdef uint64_t address
        self.begin()
        cdef const Header *header = self.current(
            hash, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &address)
        if header == NULL:
            return None
        return self.view_at(header, address)

    cdef object view_at(self, const Header *header, uint64_t address):
        """Return the value of a checked record as a memoryview."""
        cdef uint64_t offset = offset_of(address)
        cdef uint64_t seed = self.segments.rows[slot_of(address)].salt + offset
        cdef MappedFile file = self.segments.file(slot_of(address))  # holds the mapping
        cdef bint right
        if not flags_of(header) & LARGE or is_at_hand(self.segments.rows, header, address):
            right = value_is_right(header, seed)
        else:
            file.fetch(offset, size_of(header))
            with nogil:
                right = value_is_right(header, seed)
        if not right:
            raise damage(BAD_VALUE, file.name, offset, "other bytes")
        return view_of(file, value_of(header), header.value_size)

    cdef bint has_key(self, object key) except -1:
        """True if a key is there."""
        cdef bytes name = checked_key(key)
        cdef uint64_t hash = xxh3(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), self.seed)
        cdef uint64_t address
        self.begin()
        return self.current(
            hash, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &address) != NULL

    @property
    def version(self) -> int:
        """The version of the newest change; 0 for a store that was never written."""
        self.begin()
        return self.applied

    # -- set-up, by recovery

    def configure(
        self, index: KeyIndex, segments: SegmentTable, seed: int, clock: object, verify: str,
    ) -> None:
        """Read from these from now on."""
        index.seed = seed
        self.index, self.segments, self.seed = index, segments, seed
        self.clock, self.is_system_clock = clock, is_system_clock(clock)
        self.verify_always = verify == "always"

    def set_applied(self, version: int) -> None:
        """Say which version the index is at."""
        self.applied = version

    def refuse(self, error: BaseException | None) -> None:
        """Make every later call raise this error."""
        self.unusable = error

    def check_usable(self) -> None:
        """Raise if the store was closed; let a follower catch up."""
        self.begin()

    @property
    def key_index(self) -> KeyIndex:
        """The hash index."""
        return self.index

    @property
    def segment_table(self) -> SegmentTable:
        """The segments."""
        return self.segments

    @property
    def applied_version(self) -> int:
        """The version the index is at, without looking for changes."""
        return self.applied

    @property
    def is_refused(self) -> bool:
        """True once every call raises."""
        return self.unusable is not None
