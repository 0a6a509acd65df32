"""Writing: a change becomes a record at the end of the log, then the index points to it.

Invariants:

* Versions are given in the order in which records lie in the log, and grow by one; only where a
  replica took changes over as its source numbered them may some be missing, and a flag says so.
* A change is visible to readers of this process when its record is whole, to other processes when
  the control page says so, and acknowledged when it is as durable as was asked for.
* A batch becomes visible at once: between its first and its last index entry the GIL is held.
* A write that fails leaves nothing behind that a reader or a recovery could take for a change.
* One thread writes at a time; it may release the GIL meanwhile, so what was looked up in the
  index before is looked up again after.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc

from kvengine.engine.durable cimport (
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_trylock,
    pthread_mutex_unlock,
)
from kvengine.engine.key_index cimport (
    ADDRESS_MASK, DAMAGED, find, home_line,
)
from kvengine.engine.record cimport (
    DELETE, DURABLE, EXPIRES, GAP, HEADER_BYTES, MORE, PUT, aligned, encode, expiry_of, flags_of,
    size_of, version_of,
)
from kvengine.engine.segment cimport (
    SEGMENT_MAP_BYTES, make_address, note_expiry, offset_of, slot_of,
)

from time import sleep

from kvengine.errors import InvalidRequest, VersionConflict, again

cdef extern from *:
    """
    #define kv_prefetch(address) __builtin_prefetch((address), 0, 3)
    static inline void kv_publish(uint64_t *place, uint64_t value) {
        __atomic_store_n(place, value, __ATOMIC_RELEASE);
    }
    """
    void kv_prefetch(const void *address) noexcept nogil
    void kv_publish(uint64_t *place, uint64_t value) noexcept nogil

cdef enum:
    GROW_STEP_BYTES_MAX = 4 << 20
    GROW_STEP_BYTES_MIN = 16 << 10
    GIL_BYTES_MAX = 65536       # larger writes release the GIL
    SMALL_BYTES = 16384         # records up to here are put together on the C stack
    # One call for each larger write is cheaper than what the system does for pages that were
    # stored to, when they are written back.
    IN_PLACE_BYTES_MAX = 4096

LEVELS = {"sync": 0, "group": 1, "interval": 2, "os": 3}


def level_of(durability: object) -> int:
    """Return the number of a durability.

    Raises:
        InvalidRequest: there is no such durability.
    """
    try:
        return LEVELS[durability]
    except (KeyError, TypeError):
        raise InvalidRequest(
            f"durability must be one of {', '.join(LEVELS)}, not {durability!r}") from None


cdef class Writer(Reader):
    """A Reader that may also append to the log."""

    def __cinit__(self, *args, **kwargs) -> None:
        pthread_mutex_init(&self.lock, NULL)
        self.bell = &self.no_bell

    def __dealloc__(self) -> None:
        pthread_mutex_destroy(&self.lock)

    cdef int acquire(self) except -1:
        """Become the one thread that writes."""
        if pthread_mutex_trylock(&self.lock) != 0:
            with nogil:
                pthread_mutex_lock(&self.lock)
        if self.unusable is not None or self.refusal is not None:
            self.release()
            raise again(self.unusable if self.unusable is not None else self.refusal)
        return 0

    cdef void release(self) noexcept:
        pthread_mutex_unlock(&self.lock)

    def configure_writes(
        self, order: KeyOrder, commits: CommitGroup, level: int, segment_bytes: int,
        store_to_mapping: bool,
    ) -> None:
        """Set what the writer needs beside what every reader has."""
        self.order, self.commits, self.level = order, commits, level
        self.segment_bytes, self.store_to_mapping = segment_bytes, store_to_mapping

    def rebase(self, order: KeyOrder) -> None:
        """Use another key order, and begin a segment with the next write."""
        self.order, self.active, self.active_slot = order, None, 0

    def activate(self, segment_id: int) -> None:
        """Append to this segment from now on."""
        self.active_slot = self.segments.slots[segment_id]
        self.active = self.segments.file(self.active_slot)

    def refuse_writes(self, error: BaseException | None) -> None:
        """Let every write raise this error from now on."""
        self.refusal = error

    def stop_writes(self, error: BaseException) -> None:
        """Let a write that is under way end; later ones raise this error, as every other call."""
        with nogil:
            pthread_mutex_lock(&self.lock)
        self.unusable = error
        self.release()

    cdef int acquire_to_write(self) except -1:
        """Become the one thread that writes, after the pause that the last one left, if any.

        A pause is made before the lock is taken: it is for the background thread, which needs it.
        """
        cdef double pause = self.pause_s
        if self.follows is not None:
            raise again(self.follows)
        if pause > 0:
            self.pause_s = 0
            sleep(pause)
        return self.acquire()

    def exclusively(self, action: object) -> object:
        """Call `action` while no other thread writes, and return what it returns.

        Also on a store that takes no more writes: after a sync that failed one still wants to look.
        """
        if pthread_mutex_trylock(&self.lock) != 0:
            with nogil:
                pthread_mutex_lock(&self.lock)
        try:
            return action()
        finally:
            self.release()

    def _next_segment(self) -> None:
        """Go on in a new segment; the store overrides it."""

    def _wake(self) -> None:
        """Wake those who wait for a change; the store overrides it."""

    def _has_grown(self) -> None:
        """The log takes more disk; the store overrides it."""

    cdef int make_room(self, uint64_t size, bint durable) except -1:
        """Have `size` bytes after the end of the log in one segment, allocated on disk."""
        cdef uint64_t end = 0
        if self.active_slot:
            end = self.segments.rows[self.active_slot].end
        if self.active_slot == 0 or end >= self.segment_bytes or end + size > SEGMENT_MAP_BYTES:
            self.commits.check_present()
            self._next_segment()
            end = self.segments.rows[self.active_slot].end
        cdef uint64_t allocated = self.active.size_bytes
        cdef uint64_t step
        if end + size > allocated:
            step = max(min(allocated, <uint64_t>GROW_STEP_BYTES_MAX), <uint64_t>GROW_STEP_BYTES_MIN)
            self.active.reserve(max(aligned(end + size), allocated + step))
            self.commits.check_present()  # else nobody syncs, so nobody would notice ("os")
            self._has_grown()
        return 0

    # -- the one way into the log

    cdef uint64_t write(
        self, Change *changes, Py_ssize_t n, int64_t if_version, double moment, int level
    ) except? 0:
        """Append the changes as one batch and make them visible.

        Returns the ticket to wait for, or 0 if there was nothing to do.  `moment` is the time
        by which `if_version` and deletes see what has expired: the clock is Python code, which
        is not called while the lock is held.

        Raises:
            VersionConflict: `if_version` is not negative and not the version of the first key.
        """
        cdef Py_ssize_t i
        cdef uint64_t size = self.room_for(changes, n, level)
        if if_version >= 0 or changes[0].kind == DELETE and n == 1:
            if not self._precondition(&changes[0], if_version, moment):
                return 0
        for i in range(n):
            changes[i].version = self.applied + 1 + i
        return self.append(changes, n, size, level)

    cdef uint64_t room_for(self, Change *changes, Py_ssize_t n, int level) except? 0:
        """Have room for the changes, and what they replace at hand; return their bytes at most."""
        cdef uint64_t size = 0
        cdef Py_ssize_t i
        for i in range(n):
            size += aligned(
                HEADER_BYTES + 16 + changes[i].key_size + changes[i].metadata_size
                + changes[i].value_size)
        self.make_room(size, level <= 1)
        self._look_up(changes, n)
        return size

    cdef uint64_t append(self, Change *changes, Py_ssize_t n, uint64_t size, int level) except 0:
        """Append changes that have their versions, and make them visible; return the ticket."""
        cdef Py_ssize_t i
        self._append(changes, n, size, level)
        for i in range(n):
            self.publish(&changes[i])
        self.applied = changes[n - 1].version
        self.commits.version = self.applied
        if self.control != NULL:
            kv_publish(self.control, self.applied)
        return self.commits.appended

    cdef int _look_up(self, Change *changes, Py_ssize_t n) except -1:
        """Bring what publish() will touch into the caches, and from the disk if need be."""
        cdef Py_ssize_t i
        cdef uint64_t *entry
        if n > 1:
            for i in range(n):
                kv_prefetch(home_line(self.index, changes[i].hash))
        for i in range(n):
            entry = self.locate(changes[i].hash, changes[i].key, changes[i].key_size)
            if entry != NULL:
                self.checked(entry[0] & ADDRESS_MASK)  # its size will be counted out
        return 0

    cdef bint _precondition(
        self, Change *change, int64_t if_version, double moment
    ) except? False:
        """Compare versions as of a moment; False for a delete that has nothing to delete."""
        cdef uint64_t *entry = self.locate(change.hash, change.key, change.key_size)
        cdef const Header *header
        cdef uint64_t found = 0
        if entry != NULL:
            header = self.checked(entry[0] & ADDRESS_MASK)
            if not flags_of(header) & EXPIRES or expiry_of(header) > moment:
                found = version_of(header)
        if if_version >= 0 and found != <uint64_t>if_version:
            raise VersionConflict(if_version, found)
        return found != 0 or change.kind != DELETE

    cdef int _append(self, Change *changes, Py_ssize_t n, uint64_t size, int level) except -1:
        """Lay the records out behind the end of the log; nothing points to them yet."""
        cdef Segment *row = &self.segments.rows[self.active_slot]
        cdef uint64_t start = row.end
        cdef char[SMALL_BYTES] small
        cdef char *target
        cdef char *buffer = NULL
        cdef bint in_place = (
            self.store_to_mapping and level > 1 and size <= IN_PLACE_BYTES_MAX
            and self.active.hook is None and not self.active.sparse)
        cdef uint64_t end
        if in_place:
            self.active.prepare(start, start + size)
            target = row.base + start
        elif size <= SMALL_BYTES:
            target = small
        else:
            target = buffer = <char *>malloc(size)
            if buffer == NULL:
                raise MemoryError
        cdef uint8_t first = DURABLE if self.commits.synced == self.commits.appended else 0
        try:
            if size > GIL_BYTES_MAX:
                with nogil:
                    end = lay_out(target, start, row.salt, changes, n, self.applied, first)
            else:
                end = lay_out(target, start, row.salt, changes, n, self.applied, first)
            if not in_place:
                self.active.write_at(target, end, start)
        finally:
            free(buffer)
        row = &self.segments.rows[self.active_slot]
        row.end = start + end
        self.commits.appended += end
        return 0

    cdef int publish(self, Change *change) except -1:
        """Let the index point to a record that is in the log."""
        cdef uint64_t where
        cdef uint64_t *entry = find(
            self.index, change.hash, change.key, change.key_size, True, &where)
        if entry == &DAMAGED:
            raise self.damaged(where)
        cdef Segment *row = &self.segments.rows[self.active_slot]
        cdef uint64_t address = make_address(self.active_slot, change.offset)
        cdef uint64_t size = change.size
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
            self._count_out(entry[0] & ADDRESS_MASK)
            if change.kind == PUT:
                self.index.replace(entry, change.hash, address)
            else:
                self.index.remove(entry, change.hash)
        elif change.kind == PUT:
            self.index.insert(change.hash, address)
            self.order.add(change.key, <uint32_t>change.key_size, address)
        return 0

    cdef void _count_out(self, uint64_t address) noexcept:
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
    char *target, uint64_t start, uint64_t salt, Change *changes, Py_ssize_t n, uint64_t before,
    uint8_t first,
) noexcept nogil:
    """Write records to `target`, behind those up to version `before`; return their size."""
    cdef uint64_t end = 0
    cdef Py_ssize_t i
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
