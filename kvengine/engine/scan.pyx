"""Scans: keys in byte order from the key order, alive if the index says so.

Invariants:

* A scan is a series of chunks; each starts anew behind the last key of the one before, so it
  survives compaction, merges of key runs, writes by others and, by its last key, a restart.
* A key that was there when the scan began and is not touched meanwhile is given exactly once.
* The index decides who is alive.  It is not asked at all if nothing was ever removed.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t

from kvengine.engine.hash cimport xxh3
from kvengine.engine.key_index cimport ADDRESS_MASK, home_line, is_unverified
from kvengine.engine.key_order cimport Candidate, KeyCursor, KeyOrder
from kvengine.engine.reading cimport Reader
from kvengine.engine.record cimport EXPIRES, Header, expiry_of, flags_of
from kvengine.engine.segment cimport Segment, slot_of

cdef extern from *:
    """
    #define kv_prefetch(address) __builtin_prefetch((address), 0, 3)
    """
    void kv_prefetch(const void *address) noexcept nogil

cdef enum:
    GROUP = 64


def keys_chunk(
    reader: Reader, order: KeyOrder, prefix: bytes, start_after: bytes | None, reverse: bool,
    limit: int,
) -> list[bytes]:
    """Return the next living keys, up to `limit`; fewer only at the end."""
    return chunk(reader, order, prefix, start_after, reverse, limit, False)


def entries_chunk(
    reader: Reader, order: KeyOrder, prefix: bytes, start_after: bytes | None, reverse: bool,
    limit: int,
) -> list[object]:
    """Return the entries of the next living keys, up to `limit`; fewer only at the end."""
    return chunk(reader, order, prefix, start_after, reverse, limit, True)


cdef list chunk(
    Reader reader, KeyOrder order, bytes prefix, object start_after, bint reverse,
    Py_ssize_t limit, bint with_values,
):
    cdef Candidate[GROUP] candidates
    cdef uint64_t[GROUP] hashes
    cdef list found = []
    cdef Py_ssize_t i, n
    cdef bint sure
    reader.begin()
    cdef KeyCursor cursor = order.cursor()
    cursor.seek(prefix, start_after, reverse)
    while len(found) < limit:
        n = cursor.fill(candidates, min(<Py_ssize_t>GROUP, limit - len(found)))
        if n == 0:
            break
        sure = not with_values and order.all_alive(reader.removals)
        if sure:
            for i in range(n):
                found.append(PyBytes_FromStringAndSize(candidates[i].key, candidates[i].key_size))
            continue
        for i in range(n):
            hashes[i] = xxh3(candidates[i].key, candidates[i].key_size, reader.seed)
            kv_prefetch(home_line(reader.index, hashes[i]))
        if with_values:
            add_entries(reader, candidates, hashes, n, found)
        else:
            add_keys(reader, candidates, hashes, n, found)
    return found


cdef int add_keys(
    Reader reader, Candidate *candidates, uint64_t *hashes, Py_ssize_t n, list found,
) except -1:
    """Append the keys that are alive."""
    cdef Py_ssize_t i
    cdef const Candidate *candidate
    for i in range(n):
        candidate = &candidates[i]
        if is_alive(reader, candidate, hashes[i]):
            found.append(PyBytes_FromStringAndSize(candidate.key, candidate.key_size))
    return 0


cdef bint is_alive(Reader reader, const Candidate *candidate, uint64_t hash) except? False:
    """True if the key of a candidate is in the store now."""
    cdef uint64_t *entry
    cdef const Header *header
    entry = NULL
    if may_trust(reader, candidate) and not is_unverified(reader.index, hash):
        entry = reader.index.find_address(hash, candidate.address)
    if entry == NULL:
        entry = reader.locate(hash, candidate.key, candidate.key_size)
        if entry == NULL:
            return False
    if reader.segments.rows[slot_of(entry[0] & ADDRESS_MASK)].expiring_bytes:
        header = reader.checked(entry[0] & ADDRESS_MASK)
        return not flags_of(header) & EXPIRES or expiry_of(header) > reader.now()
    return True


cdef bint may_trust(Reader reader, const Candidate *candidate) noexcept:
    """True if the slot in a candidate's address still has the segment that it had then."""
    cdef Segment *row = &reader.segments.rows[slot_of(candidate.address)]
    return row.id < candidate.segment_limit


cdef int add_entries(
    Reader reader, Candidate *candidates, uint64_t *hashes, Py_ssize_t n, list found,
) except -1:
    """Append the entries of the keys that are alive."""
    cdef Py_ssize_t i
    cdef uint64_t *entry
    cdef const char *record
    for i in range(n):
        record = reader.first_guess(hashes[i])
        if record != NULL:
            kv_prefetch(record)
            kv_prefetch(record + 64)
            kv_prefetch(record + 128)
    for i in range(n):
        entry = reader.locate(hashes[i], candidates[i].key, candidates[i].key_size)
        if entry != NULL:
            item = reader.entry_at(
                PyBytes_FromStringAndSize(candidates[i].key, candidates[i].key_size),
                entry[0] & ADDRESS_MASK)
            if item is not None:
                found.append(item)
    return 0
