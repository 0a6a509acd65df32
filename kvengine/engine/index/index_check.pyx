"""Compares the index with which a store was opened with its log, for verify().

Invariants:

* Both readers exist only for the comparison: nothing writes to them.
* An index is correct if it has exactly the keys of the index of the whole log, each with the same
  record; the key order is correct if it has all of them.
"""

from libc.stdint cimport int64_t, uint64_t

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.key_index cimport (
    ADDRESS_MASK, DAMAGED, SHARD_ENTRIES, KeyIndex, find, points_to_record, record_at,
)
from kvengine.engine.order.key_order cimport KeyOrder
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport Header, check, key_of
from kvengine.engine.log.segment cimport SegmentTable, offset_of, slot_of
from kvengine.engine.order.selection cimport Selection

from kvengine.engine.jobs.gil import yield_gil
from kvengine.errors import CorruptData

cdef enum:
    CHUNK = 1024
    MANY = 100                  # problems; after so many the rest is not listed

REBUILD = " (open with rebuild=True to rebuild it from the log)"


cdef class IndexCheck:
    """One comparison of the index `opened` with the index `replayed` by the whole log.

    Thread-safety: for one thread.
    """

    cdef Reader opened, replayed
    cdef readonly list problems

    def __cinit__(self, opened: Reader, replayed: Reader) -> None:
        self.opened, self.replayed, self.problems = opened, replayed, []

    def run(self, order: KeyOrder) -> list[CorruptData]:
        """Compare everything; return what is wrong."""
        cdef int64_t entries = self._compare(self.opened, self.replayed)
        self._compare(self.replayed, self.opened)
        cdef object count = self.replayed.index.count
        if not self.problems and (entries != count or self.opened.index.count != count):
            self._note("number of keys in the index", "the key index", 0, count,
                       max(entries, self.opened.index.count))
        self._compare_counters()
        self._compare_order(order)
        return self.problems

    cdef int _note(
        self, str what, str file, uint64_t offset, object expected, object found,
    ) except -1:
        if len(self.problems) < MANY:
            self.problems.append(CorruptData(
                what + REBUILD, file=file, offset=offset, expected=expected, found=found))
        return 0

    cdef int64_t _compare(self, Reader one, Reader other) except -1:
        """See that each entry of one index is in the other; return how many it has."""
        cdef KeyIndex index = one.index
        cdef uint64_t shard, i
        cdef int64_t entries = 0
        index.finish_growth()
        for shard in range(index.table.shards):
            try:
                index.verify_shard(&index.table, shard)
            except CorruptData as error:
                self.problems.append(error)
                continue
            for i in range(SHARD_ENTRIES):
                if index.table.entries[shard * SHARD_ENTRIES + i]:
                    entries += 1
                    self._compare_entry(
                        one, other, index.table.entries[shard * SHARD_ENTRIES + i] & ADDRESS_MASK)
            yield_gil()
        for i in range(index.stash_count):
            entries += 1
            self._compare_entry(one, other, index.stash[i].address)
        return entries

    cdef int _compare_entry(self, Reader one, Reader other, uint64_t address) except -1:
        cdef uint64_t offset = offset_of(address)
        cdef uint64_t id = one.segments.rows[slot_of(address)].id, end, salt, where, hash
        cdef const Header *header = record_at(one.segments.rows, address)
        cdef uint64_t *entry
        cdef str name
        if not points_to_record(one.segments.rows, address):
            self._note("entry of the index", "the key index", 0, "a record's address", "another")
            return 0
        end = one.segments.rows[slot_of(address)].end
        salt = one.segments.rows[slot_of(address)].salt
        name = one.segments.file(slot_of(address)).name
        if check(<const char *>header, end - offset, salt + offset, False) <= 0:
            self._note("entry of the index", name, offset, "the place of a record", "another")
            return 0
        hash = xxh3(key_of(header), header.key_size, one.seed)
        entry = find(other.index, hash, key_of(header), header.key_size, True, &where)
        if entry == NULL or entry == &DAMAGED:
            self._note("entry of the index", name, offset, "the same in the log and in the index",
                       "it is in one of them")
            return 0
        where = entry[0] & ADDRESS_MASK
        if other.segments.rows[slot_of(where)].id != id or offset_of(where) != offset:
            self._note("entry of the index", name, offset, "the newest of its key", "another")
        return 0

    cdef int _compare_counters(self) except -1:
        cdef SegmentTable opened = self.opened.segments, replayed = self.replayed.segments
        for segment_id in replayed.ids():
            if segment_id in opened.slots:
                found, expected = opened.counters(segment_id)[1:], replayed.counters(segment_id)[1:]
                if found != expected:
                    name = opened.segment_file(segment_id).name
                    self._note("bytes counted of a segment", name, 0, expected, found)
        if self.opened.groups is not None and not self.opened.groups.stale:
            if sorted(self.opened.groups.saved_rows()) != sorted(self.replayed.groups.saved_rows()):
                self._note("sizes of groups", "the saved index", 0, "those of the log", "others")
        return 0

    cdef int _compare_order(self, KeyOrder order) except -1:
        """See that the key order has all keys; what else it has does not matter."""
        cdef Selection selection = Selection(CHUNK)
        cdef KeyIndex index = self.replayed.index
        cdef uint64_t found = 0, where, hash
        cdef uint64_t *entry
        cdef Py_ssize_t i
        cdef object after = None
        try:
            while True:
                selection.collect(order.buffers(), order.runs, b"", after, False, False)
                for i in range(selection.count):
                    hash = xxh3(
                        selection.entries[i].key, selection.entries[i].size, self.replayed.seed)
                    entry = find(
                        index, hash, selection.entries[i].key, selection.entries[i].size, True,
                        &where)
                    if entry != NULL and entry != &DAMAGED:
                        found += 1
                if selection.count < selection.room:
                    break
                after = selection.key(selection.count - 1)
                yield_gil()
        except CorruptData:
            return 0  # a block that is damaged is listed with its run
        if found != index.count:
            self._note("keys in the key runs", "the key order", 0, index.count, found)
        return 0
