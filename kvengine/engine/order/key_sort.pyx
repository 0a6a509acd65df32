"""Sorting key entries: by digits where keys begin to differ, by comparison where need be.

Keys of one store often share their first bytes ("user:00001234"), so the eight bytes behind the
longest common prefix are taken as a number and sorted byte by byte, which costs a few nanoseconds
a key and byte; comparing such keys with each other costs a cache miss each.

Invariants:

* The result is sorted as bytes, and stable: of equal keys the one that was added first comes first.
* The prefixes in the entries are as they were.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef enum:
    FEW = 64                    # not worth counting digits
    STRETCH = 8                 # sorted by insertion


cdef void sort_entries(KeyEntry *entries, KeyEntry *spare, uint64_t n) noexcept nogil:
    """Sort `n` entries in place; `spare` has room for as many."""
    cdef uint64_t shared, first, i
    if n <= FEW:
        merge_sort(entries, spare, n)
        return
    shared = common_prefix(entries, n)
    for i in range(n):
        entries[i].prefix = prefix_of(entries[i].key + shared, <uint32_t>(entries[i].size - shared))
    sort_by_digits(entries, spare, n)
    first = 0
    for i in range(1, n + 1):
        if i == n or entries[i].prefix != entries[first].prefix:
            if i - first > 1:
                merge_sort(entries + first, spare, i - first)
            first = i
    restore_prefixes(entries, n, shared)


cdef uint64_t common_prefix(const KeyEntry *entries, uint64_t n) noexcept nogil:
    """Return how many bytes all keys begin with."""
    cdef uint64_t shared = entries[0].size, i, k
    for i in range(1, n):
        shared = min(shared, <uint64_t>entries[i].size)
        k = 0
        while k < shared and entries[i].key[k] == entries[0].key[k]:
            k += 1
        shared = k
    return shared


cdef void restore_prefixes(KeyEntry *entries, uint64_t n, uint64_t shared) noexcept nogil:
    """Let each prefix be the first eight bytes of its key again."""
    cdef uint64_t head = prefix_of(entries[0].key, <uint32_t>min(shared, <uint64_t>8))
    cdef uint64_t i
    for i in range(n):
        if shared >= 8:
            entries[i].prefix = head
        elif shared:
            entries[i].prefix = head | entries[i].prefix >> 8 * shared


cdef void sort_by_digits(KeyEntry *entries, KeyEntry *spare, uint64_t n) noexcept nogil:
    """Sort by prefix: a stable distribution for each byte, the least significant first."""
    cdef uint64_t[8][256] counts
    cdef KeyEntry *source = entries
    cdef KeyEntry *target = spare
    cdef uint64_t i, digit, start, count
    cdef int byte, k
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        for byte in range(8):
            counts[byte][entries[i].prefix >> 8 * byte & 255] += 1
    for byte in range(8):
        if counts[byte][source[0].prefix >> 8 * byte & 255] == n:
            continue  # the same in all
        start = 0
        for k in range(256):
            count = counts[byte][k]
            counts[byte][k] = start
            start += count
        for i in range(n):
            digit = source[i].prefix >> 8 * byte & 255
            target[counts[byte][digit]] = source[i]
            counts[byte][digit] += 1
        source, target = target, source
    if source != entries:
        memcpy(entries, source, n * sizeof(KeyEntry))


cdef void merge_sort(KeyEntry *entries, KeyEntry *spare, uint64_t n) noexcept nogil:
    """Sort by comparing; stable."""
    cdef KeyEntry *source = entries
    cdef KeyEntry *target = spare
    cdef uint64_t start = 0, width = STRETCH
    while start < n:
        insertion_sort(entries + start, min(<uint64_t>STRETCH, n - start))
        start += STRETCH
    while width < n:
        start = 0
        while start < n:
            merge(source + start, min(width, n - start), min(2 * width, n - start), target + start)
            start += 2 * width
        source, target = target, source
        width *= 2
    if source != entries:
        memcpy(entries, source, n * sizeof(KeyEntry))


cdef void insertion_sort(KeyEntry *entries, uint64_t n) noexcept nogil:
    cdef uint64_t i, k
    cdef KeyEntry entry
    for i in range(1, n):
        entry = entries[i]
        k = i
        while k > 0 and compare(&entry, &entries[k - 1]) < 0:
            entries[k] = entries[k - 1]
            k -= 1
        entries[k] = entry


cdef void merge(
    const KeyEntry *source, uint64_t middle, uint64_t end, KeyEntry *target
) noexcept nogil:
    """Merge two adjacent sorted runs."""
    cdef uint64_t i = 0, j = middle, k
    for k in range(end):
        if i < middle and (j == end or compare(&source[j], &source[i]) >= 0):
            target[k] = source[i]
            i += 1
        else:
            target[k] = source[j]
            j += 1


def sort_order(keys: list[bytes]) -> list[int]:
    """Return the places of the keys in the list, in the order of the keys; for tests."""
    cdef uint64_t n = len(keys), i
    cdef KeyEntry *entries = <KeyEntry *>malloc(2 * n * sizeof(KeyEntry) + 1)
    cdef bytes key
    if entries == NULL:
        raise MemoryError
    try:
        for i in range(n):
            key = keys[i]
            entries[i] = KeyEntry(prefix_of(key, <uint32_t>len(key)), key, i, <uint32_t>len(key))
        sort_entries(entries, entries + n, n)
        for i in range(n):
            if entries[i].prefix != prefix_of(entries[i].key, entries[i].size):
                raise ValueError("a prefix has changed")
        return [entries[i].address for i in range(n)]
    finally:
        free(entries)
