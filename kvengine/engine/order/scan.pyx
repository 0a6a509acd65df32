"""Scans: keys in byte order from the key order, filtered by the index.

Invariants:

* A scan is a series of chunks, each of which starts after the last key of the one before.  So it
  survives compaction, merges of key runs, writes by others and, by its last key, a restart.
* A key that exists when the scan begins and does not change meanwhile is returned exactly once.
* The index decides which keys are live.  It is not asked if nothing was removed or can expire; the
  same sources from which the keys were taken determine that.
* Other threads can run while a scan skips many dead keys.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from kvengine.engine.index.group_sizes cimport GroupSizes
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.key_index cimport ADDRESS_MASK, home_line, is_unverified, kv_prefetch
from kvengine.engine.order.key_sort cimport KeyEntry
from kvengine.engine.order.key_order cimport KeyOrder, all_alive
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport Header, expiry_of, key_of, version_of
from kvengine.engine.log.segment cimport slot_of
from kvengine.engine.order.selection cimport Selection
from kvengine.entry cimport untracked

from kvengine.engine.jobs.gil import yield_gil
from kvengine.errors import copied_error

cdef enum:
    GROUP = 64                  # keys whose memory is fetched side by side
    CHUNK = 1024
    KEYS = 0                    # what a scan gives for each living key
    ENTRIES = 1
    HEADS = 2


def keys_chunk(
    reader: Reader, order: KeyOrder, prefix: bytes, start_after: bytes | None, reverse: bool,
    limit: int,
) -> list[bytes]:
    """Return the next living keys, up to `limit`; fewer only at the end."""
    return chunk(reader, order, prefix, start_after, reverse, limit, KEYS)


def entries_chunk(
    reader: Reader, order: KeyOrder, prefix: bytes, start_after: bytes | None, reverse: bool,
    limit: int,
) -> list[object]:
    """Return the entries of the next live keys, up to `limit`; fewer only at the end."""
    return chunk(reader, order, prefix, start_after, reverse, limit, ENTRIES)


cdef class ChunkIterator:
    """An iterator over a chunk that raises once its store is closed, even with keys left."""

    cdef Reader reader
    cdef list found
    cdef Py_ssize_t at

    def __cinit__(self, reader: Reader, found: list) -> None:
        self.reader, self.found = reader, found

    def __iter__(self):
        return self

    def __next__(self):
        if self.at >= len(self.found):
            raise StopIteration
        if self.reader.unusable is not None:  # closed meanwhile, or this is a forked child
            raise copied_error(self.reader.unusable)
        self.at += 1
        return self.found[self.at - 1]


def heads_page(
    reader: Reader, order: KeyOrder, prefix: bytes, start_after: bytes | None, reverse: bool,
    limit: int, examine: int,
) -> tuple[list[tuple[bytes, bytes, float | None, int, int]], bytes | None]:
    """Return what is known of the next living keys but their values, and where to go on.

    For each key: (key, metadata, expires_at, version, size of the value in bytes).  The page ends
    when it is full, or when about `examine` keys, dead ones too, were looked at; then the second
    result is the last of them.  It is None at the end of the keys.
    """
    cdef list found = []
    cdef Py_ssize_t wanted = limit, examined = 0
    cdef Selection selection = Selection(min(wanted + 1, <Py_ssize_t>CHUNK))
    cdef object after = start_after
    reader.begin()
    while True:
        collect(selection, reader, order, prefix, after, reverse)
        add_groups(reader, selection, HEADS, found, wanted + 1)
        if len(found) > wanted:
            return found[:wanted], found[wanted - 1][0]
        if selection.count < selection.room:
            return found, None
        after = selection.key(selection.count - 1)
        examined += selection.count
        if examined >= examine:
            return found, after
        selection = wider(selection)


cdef class Visitor:
    """What takes the records of a scan as they lie in the log; visit_records() leads it.

    This one has enough at once: a subclass says what it wants.
    """

    cdef int visit(
        self, Reader reader, const char *key, Py_ssize_t size, const Header *header,
        uint64_t address,
    ) except -1:
        """Take a checked record; return 1 if it was enough.

        The record may move as soon as other Python code can run.
        """
        return 1


def visit_records(
    reader: Reader, order: KeyOrder, prefix: bytes, start_after: bytes | None, visitor: Visitor,
) -> bytes | None:
    """Show a visitor the records of the next living keys, until it has enough.

    Returns the key behind which to go on, which comes after a thousand keys at the latest, or
    None at the end of the keys.
    """
    cdef Selection selection = Selection(CHUNK)
    cdef Py_ssize_t start, seen = 0
    reader.begin()
    collect(selection, reader, order, prefix, start_after, False)
    for start in range(0, selection.count, GROUP):
        if show_group(
            reader, selection, start, min(start + GROUP, selection.count), visitor, &seen
        ):
            return selection.key(seen - 1)
    return selection.key(seen - 1) if selection.count == selection.room else None


cdef int show_group(
    Reader reader, Selection selection, Py_ssize_t start, Py_ssize_t end, Visitor visitor,
    Py_ssize_t *seen,
) except -1:
    """Add the live ones of some keys, prefetching their records; 1: the chunk is full."""
    cdef uint64_t[GROUP] hashes
    cdef KeyEntry *entries = selection.entries + start
    cdef Py_ssize_t i
    cdef uint64_t address
    cdef const Header *header
    for i in range(end - start):
        hashes[i] = xxh3(entries[i].key, entries[i].size, reader.seed)
        kv_prefetch(home_line(reader.index, hashes[i]))
    fetch_records(reader, hashes, end - start)
    for i in range(end - start):
        seen[0] = start + i + 1
        header = reader.current(hashes[i], entries[i].key, entries[i].size, &address)
        if header != NULL and visitor.visit(
            reader, entries[i].key, entries[i].size, header, address
        ):
            return 1
    return 0


cdef list chunk(
    Reader reader, KeyOrder order, bytes prefix, object start_after, bint reverse,
    Py_ssize_t limit, int what,
):
    cdef list found = []
    cdef Selection selection = Selection(min(limit, <Py_ssize_t>CHUNK))
    reader.begin()
    while True:
        # Nothing in the selection moves until the next one, whoever writes meanwhile.
        collect(selection, reader, order, prefix, start_after, reverse)
        if what == KEYS and may_take_all(reader, selection):
            add_all(selection, found, limit)
        else:
            add_groups(reader, selection, what, found, limit)
        if len(found) >= limit or selection.count < selection.room:
            return found
        start_after = selection.key(selection.count - 1)
        selection = wider(selection)


cdef int collect(
    Selection selection, Reader reader, KeyOrder order, bytes prefix, object after, bint reverse,
) except -1:
    """Find the next keys; a reader beside a writer may have begun anew since it gave `order`."""
    order = getattr(reader, "key_order", order)
    return selection.collect(order.buffers(), order.runs, prefix, after, reverse, False)


cdef Selection wider(Selection selection):
    """Return a selection with more room: so many keys were dead that a small one gets nowhere."""
    yield_gil()  # the dead may be many
    return selection if selection.room == CHUNK else Selection(CHUNK)


cdef bint may_take_all(Reader reader, Selection selection) except? False:
    """True if all keys of a selection live, and nothing can expire.

    It holds until Python code runs again, which may remove a key: then the scan had it before.
    """
    return not reader.segments.may_expire() and all_alive(reader, selection)


cdef int add_all(Selection selection, list found, Py_ssize_t limit) except -1:
    """Append keys, until there are `limit`: nothing was ever removed."""
    cdef Py_ssize_t i
    for i in range(min(selection.count, limit - len(found))):
        found.append(
            PyBytes_FromStringAndSize(selection.entries[i].key, selection.entries[i].size))
    return 0


cdef int add_groups(
    Reader reader, Selection selection, int what, list found, Py_ssize_t limit,
) except -1:
    """Append `what` of those keys that are alive, until there are `limit`."""
    cdef Py_ssize_t start
    for start in range(0, selection.count, GROUP):
        if len(found) == limit:
            break
        add_group(reader, selection, start, what, found, limit)
    return 0


cdef int add_group(
    Reader reader, Selection selection, Py_ssize_t start, int what, list found, Py_ssize_t limit,
) except -1:
    """Append a group of keys; their memory is fetched side by side."""
    cdef uint64_t[GROUP] hashes
    cdef KeyEntry *entries = selection.entries + start
    cdef Py_ssize_t i, n = min(selection.count - start, <Py_ssize_t>GROUP)
    cdef uint64_t address
    cdef const Header *header
    cdef bytes name
    for i in range(n):
        hashes[i] = xxh3(entries[i].key, entries[i].size, reader.seed)
        kv_prefetch(home_line(reader.index, hashes[i]))
    if what != KEYS:
        fetch_records(reader, hashes, n)
    for i in range(n):
        if len(found) == limit:
            break
        name = PyBytes_FromStringAndSize(entries[i].key, entries[i].size)
        if what != KEYS:
            header = reader.current(hashes[i], entries[i].key, entries[i].size, &address)
            if header != NULL:
                found.append(
                    reader.entry_at(name, header, address) if what == ENTRIES
                    else head_of(name, header))
        elif is_alive(reader, &entries[i], name, selection.limits[start + i], hashes[i]):
            found.append(name)
    return 0


cdef tuple head_of(bytes name, const Header *header):
    cdef double expires_at = expiry_of(header)
    cdef const char *metadata = key_of(header) + header.key_size
    return <tuple>untracked((
        name,
        PyBytes_FromStringAndSize(metadata, header.metadata_size),
        expires_at if expires_at else None,
        version_of(header),
        header.value_size,
    ))


cdef void fetch_records(Reader reader, uint64_t *hashes, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i
    cdef const char *record
    for i in range(n):
        record = reader.first_guess(hashes[i])
        if record != NULL:
            kv_prefetch(record)
            kv_prefetch(record + 64)
            kv_prefetch(record + 128)


cdef bint is_alive(
    Reader reader, const KeyEntry *key, bytes name, uint64_t limit, uint64_t hash,
) except? False:
    """True if a key is in the store now."""
    cdef uint64_t slot = slot_of(key.address), address
    # A slot that was given to another segment since proves nothing.
    if (
        reader.segments.rows[slot].id < limit
        and not reader.segments.rows[slot].expiring_bytes
        and not is_unverified(reader.index, hash)
        and reader.index.find_address(hash, key.address) != NULL
    ):
        return True
    return reader.current(
        hash, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &address) != NULL


def recount_groups(reader: Reader) -> GroupSizes:
    """Recount the keys of groups and return them; the caller keeps writers out."""
    cdef GroupSizes groups = reader.groups
    cdef KeyOrder order = (<object>reader).key_order
    cdef Selection selection = Selection(CHUNK)
    cdef const char *key
    cdef uint64_t *entry
    cdef uint64_t hash
    cdef Py_ssize_t i
    cdef object after = None
    groups.clear()
    try:
        while True:
            selection.collect(order.buffers(), order.runs, groups.first, after, False, False)
            for i in range(selection.count):
                key = selection.entries[i].key
                hash = xxh3(key, selection.entries[i].size, reader.seed)
                entry = reader.locate(hash, key, selection.entries[i].size)
                if entry != NULL:
                    groups.add_record(reader.checked(entry[0] & ADDRESS_MASK), 1)
            if selection.count < selection.room:
                return groups
            after = selection.key(selection.count - 1)
    except BaseException:
        groups.invalidate()
        raise


def living(reader: Reader) -> object:
    """Return a function that drops dead keys from a Selection and refreshes the addresses."""
    def resolve(Selection selection) -> None:
        cdef Py_ssize_t i, kept = 0
        cdef uint64_t hash
        cdef uint64_t *entry
        for i in range(selection.count):
            hash = xxh3(selection.entries[i].key, selection.entries[i].size, reader.seed)
            entry = reader.locate(hash, selection.entries[i].key, selection.entries[i].size)
            if entry != NULL:
                selection.entries[kept] = selection.entries[i]
                selection.entries[kept].address = entry[0] & ADDRESS_MASK
                kept += 1
        selection.count = kept
    return resolve
