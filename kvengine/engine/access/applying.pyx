"""Applying the changes of another store, with the versions that they have there.

Invariants:

* Versions increase.  If versions are missing between two records, a flag in the record marks the
  gap.
* The changes of one apply() become visible, and survive a crash, together or not at all.
* The clock plays no role: expired records are applied unchanged.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF
from libc.math cimport isfinite
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from kvengine.engine.log.futex_word cimport wake_waiters
from kvengine.engine.access.changing cimport Changer, set_bytes
from kvengine.engine.following.digest cimport DigestSum
from kvengine.engine.log.durable cimport kv_thread
from kvengine.engine.index.group_sizes cimport GroupSizes
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.access.indexing cimport take_in
from kvengine.engine.index.key_index cimport KeyIndex
from kvengine.engine.order.key_order cimport KeyOrder
from kvengine.engine.index.keys cimport checked_key
from kvengine.engine.access.log_end cimport DONE
from kvengine.engine.log.page cimport SEGMENT, load_word
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport DELETE, EXPIRES, HEADER_BYTES, PUT, aligned, encode
from kvengine.engine.access.change cimport Change, Write
from kvengine.engine.log.segment cimport SegmentTable
from kvengine.file.mapped cimport MappedFile

from kvengine.engine.log.durability import level_of
from kvengine.errors import InvalidRequest, InvalidType
from kvengine.options import BATCH_BYTES_MAX

cdef uint64_t BATCH_MAX = BATCH_BYTES_MAX

cdef enum:
    OVERHEAD_BYTES = 64         # of a record, at most
    VERSION_BITS = 48


def size_of_change(change: object) -> int:
    """Return how many bytes a change takes in a log, at most."""
    return OVERHEAD_BYTES + len(change[2]) + len(change[3]) + len(change[4])


cdef class Changes:
    """Changes as C sees them; `given` keeps alive what they point to."""

    cdef Change *all
    cdef Py_ssize_t count
    cdef uint64_t size
    cdef tuple given

    def __cinit__(self, given: tuple, seed: int, after: int) -> None:
        cdef Py_ssize_t i
        cdef Change *change
        cdef uint64_t newest = after
        self.given, self.count = given, len(given)
        self.all = <Change *>calloc(max(self.count, <Py_ssize_t>1), sizeof(Change))
        if self.all == NULL:
            raise MemoryError
        for i in range(self.count):
            change = &self.all[i]
            read_change(change, given[i], seed)
            if change.version <= newest:
                raise InvalidRequest(f"version {change.version} does not come after {newest}")
            newest = change.version
            self.size += (
                OVERHEAD_BYTES + change.key_size + change.metadata_size + change.value_size)

    def __dealloc__(self) -> None:
        free(self.all)


cdef int read_change(Change *change, object given, uint64_t seed) except -1:
    """Point a change at what it was given as; everything is checked."""
    version, kind, key, value, metadata, expires_at = given
    if type(key) is not bytes or type(value) is not bytes or type(metadata) is not bytes:
        raise InvalidType("key, value and metadata of a change must be bytes")
    checked_key(key)
    if version <= 0 or version >> VERSION_BITS:
        raise InvalidRequest(f"a change has a version from 1 to 2^48 - 1, not {version}")
    if kind not in ("put", "delete"):
        raise InvalidRequest(f"a change is a put or a delete, not {kind!r}")
    change.version = version
    change.kind = PUT if kind == "put" else DELETE
    change.key, change.key_size = PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
    change.hash = xxh3(change.key, change.key_size, seed)
    if change.kind == PUT:
        set_bytes(change, <bytes>value, <bytes>metadata)
        if expires_at is not None:
            change.expires_at = expires_at
            if not isfinite(change.expires_at) or change.expires_at == 0:
                raise InvalidRequest(f"expires_at must be a moment, not {expires_at}")
    return 0


cdef class Applier(Changer):
    """A Changer that also takes over what another store has decided."""

    def apply(self, changes: tuple, durability: object = None) -> int:
        """Take over changes with the versions they have, all or none; return the newest version.

        Args:
            changes: Change objects; versions grow, and the first is above the store's.  What
                Batch takes together fits: about 128 MiB.
            durability: instead of the store's.

        Raises:
            InvalidRequest: a change is none that a store has, or they are out of order.
        """
        cdef int level = self.level if durability is None else level_of(durability)
        cdef Write write
        cdef Changes taken = Changes(changes, self.seed, 0)
        if taken.size > BATCH_MAX:
            raise InvalidRequest(
                f"changes that are taken over together have at most {BATCH_MAX} bytes, "
                f"not {taken.size}")
        if taken.count == 0:
            return self.applied
        memset(&write, 0, sizeof(Write))
        write.changes, write.n, write.level = taken.all, taken.count, level
        write.numbered, write.if_version = True, -1
        self.perform(&write)
        self.announce()
        if level <= 1:
            self.commits.wait(write.version, level == 0)
        elif level == 2 and not self.commits.is_sync_due:
            self._sync_soon()
        return write.version

    def announce(self) -> None:
        """Wake threads that wait for a change, here and in other processes."""
        wake_waiters(self.futex)
        if self.waiters:
            self._wake()

    def count_changes(self, changes: DigestSum) -> int:
        """Count every change from now on into a sum; return the newest version before."""
        self.digest_changes = changes
        return self.applied

    def take_over(
        self, other: Reader, order: KeyOrder, rows: list, manifest: object, active_id: int,
        goes_back: bool = True, **beside,
    ) -> bool:
        """Read from now on what another reader has prepared; other threads see all or nothing.

        No Python code runs in here, so the GIL stays.  Nobody writes meanwhile.

        Args:
            active_id: of the segment that is written to; 0: there is none.
            goes_back: it may be older than what was read so far; else it reads on up to there.
            beside: attributes of the store that belong to what is taken over.

        Returns:
            False: it would have to go back, and nothing has changed.
        """
        cdef bint mine = self.owner == kv_thread()  # from inside exclusively()
        cdef list unsynced = [
            other.segments.file(other.segments.slots[row.id])
            for row in rows if row.size_bytes is None and row.id != active_id]
        if not mine:
            self.enter()
        try:
            if not self._change_index(other, order, active_id, goes_back):
                return False
            self.clock, self.is_system_clock = other.clock, other.is_system_clock
            self.verify_always = other.verify_always
            self.rows = rows
            self.foreign_changes += 1
            if self.commits is not None:
                self.commits.start_over(unsynced, self.active, active_id, self.applied)
            (<object>self).key_order = order
            (<object>self).manifest = manifest
            for name, value in beside.items():
                setattr(self, name, value)
            return True
        finally:
            if not mine:
                self.leave()

    cdef bint _change_index(
        self, Reader other, KeyOrder order, uint64_t active_id, bint goes_back
    ) except -1:
        cdef KeyOrder old_order = self.order
        cdef KeyIndex old_index = self.index
        cdef SegmentTable old_segments = self.segments
        cdef GroupSizes old_groups = self.groups
        cdef MappedFile old_active = self.active
        cdef uint64_t old_slot = self.active_slot, old_seed = self.seed
        cdef uint64_t old_removals = self.removals, known = self.applied
        cdef Write write
        self.active, self.active_slot = None, 0
        if active_id:
            self.active_slot = other.segments.slots[active_id]
            self.active = other.segments.file(self.active_slot)
        self._keep_digest(other.applied)
        self.order, self.index, self.segments = order, other.index, other.segments
        self.groups, self.seed = other.groups, other.seed
        self.removals, self.applied = other.removals, other.applied
        if goes_back or self.applied >= known:
            return True
        memset(&write, 0, sizeof(Write))
        write.numbered, write.if_version, write.waits = True, -1, True
        # Behind the end of a segment in which the log does not go on is what nobody may read, or
        # nothing: a file that others have closed is shorter than it was.
        if active_id and load_word(&self.page[SEGMENT]) == active_id and (
            take_in(self, known, &write) == DONE
        ):
            return True
        if write.file != NULL:
            Py_DECREF(<object>write.file)
        self.order, self.index, self.segments = old_order, old_index, old_segments
        self.groups, self.seed = old_groups, old_seed
        self.active, self.active_slot = old_active, old_slot
        self.removals, self.applied = old_removals, known
        if self.commits is not None:
            self.commits.version = known
        return False

    cdef void _keep_digest(self, uint64_t applied) noexcept:
        """The index is replaced by one that goes up to a version: go on counting if that can be.

        An older one holds the same but for changes that come once more, and are not counted twice.
        """
        if self.digest_changes is not None:
            if applied > self.applied:
                self.digest_changes = None  # what came between was not counted
            elif self.applied > self.digest_changes.counted_to:
                self.digest_changes.counted_to = self.applied


def packed(changes: tuple, after: int, salt: int, start: int) -> bytes:
    """Return changes as the records of a compacted segment, from offset `start` on.

    Raises:
        InvalidRequest: a change is none that a store has, or versions do not grow from `after`.
    """
    cdef Changes taken = Changes(changes, 0, after)
    cdef Change *change
    cdef uint64_t size = 0, seed = salt, at = start, end = 0
    cdef Py_ssize_t i
    for i in range(taken.count):
        change = &taken.all[i]
        size += aligned(
            HEADER_BYTES + 16 + change.key_size + change.metadata_size + change.value_size)
    cdef bytes room = PyBytes_FromStringAndSize(NULL, size)
    cdef char *target = PyBytes_AS_STRING(room)
    for i in range(taken.count):
        change = &taken.all[i]
        end += encode(
            target + end, change.version, <uint8_t>change.kind,
            EXPIRES if change.expires_at else 0, change.expires_at,
            change.key, <uint16_t>change.key_size, change.metadata,
            <uint16_t>change.metadata_size, change.value, <uint32_t>change.value_size,
            seed + at + end)
    return room[:end]
