"""How many keys and bytes begin with certain first bytes: counted with each change, never scanned.

Invariants:

* Unless `stale`, the counts are those of the records that the index points to.  They are changed
  where the live bytes of segments are.
* Expired records are left out when a total is read: records are counted by expiry.
* Asking costs a look at one total, except when a moment at which keys end has passed since the last
  time: then all moments of the group are added up.
* They are derived: where memory runs out while counting they are `stale`, and counted anew when
  somebody asks.
* A change to the group that was changed before costs a comparison and two additions.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from kvengine.engine.log.record cimport Header, expiry_of, key_of

from kvengine.entry import GroupSize
from kvengine.errors import InvalidRequest


cdef extern from "Python.h":
    int PyGC_Enable()
    int PyGC_Disable()


cdef inline uint64_t number_of(const char *key, int size) noexcept:
    """Return the first bytes of a key as a number, padded with zeros at the end."""
    cdef uint64_t number = 0
    cdef int i
    for i in range(size):
        number = number << 8 | <unsigned char>key[i]
    return number << 8 * (8 - size)


cdef class GroupSizes:
    """Counts of living keys by their first bytes.

    Args:
        first: which keys are counted: those that begin so and have `size` bytes or more.
        size: how many bytes of a key are its group, 1 to 8.

    Thread-safety: changed and read while holding the GIL.
    """

    def __cinit__(self, first: bytes, size: int) -> None:
        self.first, self.size = first, size
        self.clear()

    def __dealloc__(self) -> None:
        free(self.rows)
        free(self.totals)

    def clear(self) -> None:
        """Forget all counts."""
        self.groups, self.free_rows, self.total_numbers = {}, [], {}
        self.count = self.total_count = 0
        self.last_row = self.last_total = -1
        self.stale = False

    def invalidate(self) -> None:
        """Say that the counts are not those of the index any more."""
        self.stale = True

    # -- counting

    cdef void add_record(self, const Header *header, int sign) noexcept:
        """Count a record in (1) or out (-1)."""
        self.add(
            key_of(header), header.key_size, <uint64_t>header.metadata_size + header.value_size,
            expiry_of(header), sign)

    cdef void add(
        self, const char *key, uint64_t key_size, uint64_t other_bytes, double expires_at, int sign
    ) noexcept:
        cdef uint64_t group
        cdef GroupRow *row
        cdef GroupTotal *total
        if self.stale or key_size < <uint64_t>self.size or memcmp(
            key, <const char *>self.first, len(self.first)
        ) != 0:
            return
        group = number_of(key, self.size)
        if self.last_row < 0 or group != self.last_group or expires_at != self.last_expiry:
            if not self.seek(group, expires_at):
                return
            self.last_group, self.last_expiry = group, expires_at
        row = &self.rows[self.last_row]
        row.keys += sign
        row.bytes += sign * <int64_t>(key_size + other_bytes)
        total = &self.totals[self.last_total]
        if expires_at == 0 or expires_at > total.asked_at:
            total.keys += sign
            total.bytes += sign * <int64_t>(key_size + other_bytes)
        if row.keys < 0 or row.bytes < 0:  # a saved index had other counts than its log
            self.stale = True
            return
        if row.keys == 0 and expires_at:
            # Expiry times pass, and their rows are never used again.
            self.forget_row(group, expires_at)

    cdef bint seek(self, uint64_t group, double expires_at) noexcept:
        """Let `last_row` be the one of a group and a moment; False, and in doubt, if there is none.

        The writer's lock is held, so garbage, whose finalizers may write, is not collected here.
        """
        cdef bint collects = PyGC_Disable()
        try:
            self.last_row = self.row_of(group, expires_at)
            if self.last_total < 0 or group != self.last_group:
                self.last_total = self.total_of(group)
        except MemoryError:
            self.stale, self.last_row = True, -1
        if collects:
            PyGC_Enable()
        return not self.stale

    cdef void forget_row(self, uint64_t group, double expires_at) noexcept:
        cdef bint collects = PyGC_Disable()
        try:
            self.free_rows.append(self.last_row)
            (<dict>self.groups[group]).pop(expires_at)
        except MemoryError:
            self.stale = True
        if collects:
            PyGC_Enable()
        self.last_row = -1

    cdef Py_ssize_t row_of(self, uint64_t group, double expires_at) except -1:
        cdef dict moments = self.groups.get(group)
        cdef Py_ssize_t number
        if moments is None:
            moments = self.groups[group] = {}
        found = moments.get(expires_at)
        if found is not None:
            return found
        cdef GroupTotal *total = &self.totals[self.total_of(group)]
        if total.asked_at < expires_at < total.holds_until:
            total.holds_until = expires_at
        if self.free_rows:
            number = self.free_rows.pop()
        else:
            self.grow()
            number = self.count
            self.count += 1
        self.rows[number] = GroupRow(0, 0)
        moments[expires_at] = number
        return number

    cdef Py_ssize_t total_of(self, uint64_t group) except -1:
        """Return the number of a group's total; a new one is counted at the first read."""
        found = self.total_numbers.get(group)
        if found is None:
            self.grow_totals()
            self.totals[self.total_count] = GroupTotal(0, 0, 0, 0)
            found = self.total_numbers[group] = self.total_count
            self.total_count += 1
        return found

    cdef int grow(self) except -1:
        cdef GroupRow *rows
        cdef Py_ssize_t room = 2 * self.room + 16
        if self.count == self.room:
            rows = <GroupRow *>realloc(self.rows, room * sizeof(GroupRow))
            if rows == NULL:
                raise MemoryError
            self.rows, self.room = rows, room
        return 0

    cdef int grow_totals(self) except -1:
        cdef GroupTotal *totals
        cdef Py_ssize_t room = 2 * self.total_room + 16
        if self.total_count == self.total_room:
            totals = <GroupTotal *>realloc(self.totals, room * sizeof(GroupTotal))
            if totals == NULL:
                raise MemoryError
            self.totals, self.total_room = totals, room
        return 0

    # -- asking

    def sizes(self, group: bytes, now: float) -> GroupSize:
        """Return GroupSize(keys, bytes) of what has not expired.

        Raises:
            InvalidRequest: keys are not counted by this group.
        """
        cdef double moment = now
        cdef uint64_t number
        cdef GroupTotal *total
        if len(group) != self.size or not group.startswith(self.first):
            raise InvalidRequest(
                f"keys are counted by their first {self.size} bytes if they begin with "
                f"{self.first!r}, not by {group!r}")
        number = number_of(group, self.size)
        if number not in self.total_numbers:
            return GroupSize(0, 0)
        total = &self.totals[<Py_ssize_t>self.total_numbers[number]]
        if not total.asked_at <= moment < total.holds_until:
            self.recount(number, total, moment)
        return GroupSize(total.keys, total.bytes)

    cdef int recount(self, uint64_t group, GroupTotal *total, double moment) except -1:
        """Add up what has not expired."""
        cdef GroupRow *row
        cdef GroupTotal new = GroupTotal(0, 0, moment, INFINITY)
        for expires_at, number in self.groups[group].items():
            if expires_at == 0 or expires_at > moment:
                row = &self.rows[<Py_ssize_t>number]
                new.keys += row.keys
                new.bytes += row.bytes
                if expires_at and expires_at < new.holds_until:
                    new.holds_until = expires_at
        total[0] = new
        return 0

    # -- the saved index

    def saved_rows(self) -> list[tuple[int, float, int, int]]:
        """Return (group, expiry, keys, bytes) of all groups that have keys."""
        rows = []
        for group, moments in self.groups.items():
            for expires_at, number in moments.items():
                keys, size = self.rows[<Py_ssize_t>number].keys, self.rows[<Py_ssize_t>number].bytes
                if keys:
                    rows.append((group, expires_at, keys, size))
        return rows

    def load(self, setting: object, rows: object) -> None:
        """Take back what saved_rows() gave; doubt it if keys were counted in another way."""
        cdef Py_ssize_t number
        self.clear()
        if setting != (self.first, self.size):
            self.stale = True
            return
        for group, expires_at, keys, size in rows:
            number = self.row_of(group, expires_at)
            self.rows[number].keys = keys
            self.rows[number].bytes = size
