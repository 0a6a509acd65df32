"""Sums over ranges of keys, computed by a scan.

Invariants:

* The clock plays no role: an expired record that was not compacted away is summed with its
  expiration.
* Other threads can run after every thousand keys; for one moment for the whole range, use a
  snapshot.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

from kvengine.engine.following.digest cimport DigestSum
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.order.key_sort cimport KeyEntry
from kvengine.engine.index.key_index cimport ADDRESS_MASK, home_line, kv_prefetch
from kvengine.engine.order.key_order cimport KeyOrder
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport Header, expiry_of
from kvengine.engine.order.selection cimport Selection

from kvengine.engine.jobs.gil import yield_gil

cdef enum:
    GROUP = 64                  # keys whose memory is fetched side by side
    CHUNK = 1024


cdef class RangeWalk:
    """A walk over the records of a range of keys, in their order.

    Args:
        start, end: keys from `start` on, before `end`; None: to the last key.

    Thread-safety: for one thread.
    """

    cdef Reader reader
    cdef KeyOrder order
    cdef bytes start
    cdef object end, after
    cdef bint is_over
    cdef DigestSum sum
    cdef list cuts              # None: the records are summed; else keys are noted
    cdef double moment
    cdef uint64_t step, seen

    def __cinit__(self, reader: Reader, order: KeyOrder, start: bytes, end: bytes | None) -> None:
        self.reader, self.order, self.start, self.end = reader, order, start, end

    def summed(self) -> DigestSum:
        """Return the sum of the range."""
        self.sum, self.cuts = DigestSum(), None
        self._walk()
        return self.sum

    def cut(self, step: int, moment: int) -> list[bytes]:
        """Return each `step`th key, from the first on, of those that live after a second."""
        self.cuts, self.step, self.moment, self.seen = [], step, moment, 0
        self._walk()
        return self.cuts

    cdef int _walk(self) except -1:
        cdef Selection selection = Selection(CHUNK)
        cdef Py_ssize_t start
        self.reader.begin()
        self.after, self.is_over = None, False
        if self.start:
            self._look_at(PyBytes_AS_STRING(self.start), PyBytes_GET_SIZE(self.start))
            self.after = self.start
        while not self.is_over:
            selection.collect(
                self.order.buffers(), self.order.runs, b"", self.after, False, False)
            for start in range(0, selection.count, GROUP):
                if self._look_at_group(selection, start):
                    self.is_over = True
                    break
            if selection.count < selection.room:
                return 0
            self.after = selection.key(selection.count - 1)
            yield_gil()
        return 0

    cdef bint _look_at_group(self, Selection selection, Py_ssize_t start) except -1:
        """Look at some keys; True at the end of the range."""
        cdef KeyEntry *entries = selection.entries + start
        cdef Py_ssize_t i, n = min(selection.count - start, <Py_ssize_t>GROUP)
        cdef uint64_t[GROUP] hashes
        cdef const char *record
        for i in range(n):
            hashes[i] = xxh3(entries[i].key, entries[i].size, self.reader.seed)
            kv_prefetch(home_line(self.reader.index, hashes[i]))
        for i in range(n):
            record = self.reader.first_guess(hashes[i])
            if record != NULL:
                kv_prefetch(record)
                kv_prefetch(record + 64)
                kv_prefetch(record + 128)
        for i in range(n):
            if self.end is not None and not comes_before(
                entries[i].key, entries[i].size, <bytes>self.end
            ):
                return True
            self._take(hashes[i], entries[i].key, entries[i].size)
        return False

    cdef int _look_at(self, const char *key, uint64_t size) except -1:
        return self._take(xxh3(key, size, self.reader.seed), key, size)

    cdef int _take(self, uint64_t hash, const char *key, uint64_t size) except -1:
        cdef uint64_t *entry = self.reader.locate(hash, key, size)
        cdef const Header *header
        cdef double expires_at
        if entry == NULL:
            return 0
        header = self.reader.checked(entry[0] & ADDRESS_MASK)
        if self.cuts is None:
            self.sum.add_record(header, 1)
            return 0
        expires_at = expiry_of(header)
        if expires_at == 0 or expires_at > self.moment:
            if self.seen % self.step == 0:
                self.cuts.append(key[:size])
            self.seen += 1
        return 0


cdef bint comes_before(const char *key, uint64_t size, bytes end) noexcept:
    cdef uint64_t other = PyBytes_GET_SIZE(end)
    cdef int order = memcmp(key, PyBytes_AS_STRING(end), min(size, other))
    return order < 0 or order == 0 and size < other
