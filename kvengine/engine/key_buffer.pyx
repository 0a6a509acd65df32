"""New keys in memory: added without order, sorted when somebody asks for order.

Invariants:

* Adding never sorts and never moves a key: keys lie in blocks of memory that stay where they are.
* The entries are sorted stretches of falling length, then an unsorted rest.  settle() sorts the
  rest and merges stretches of similar length, so that adding and listing in turn costs each key a
  logarithmic number of moves.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from kvengine.engine.key_sort cimport sort_entries

cdef enum:
    BLOCK_BYTES = 65536


cdef uint64_t seek_entries(
    const KeyEntry *entries, uint64_t start, uint64_t end, const KeyEntry *key, bint after
) noexcept nogil:
    """Return the index of the first of the sorted entries at or behind a key (`after`: behind)."""
    cdef uint64_t low = start, high = end, middle
    cdef int order
    while low < high:
        middle = (low + high) // 2
        order = compare(&entries[middle], key)
        if order < 0 or (after and order == 0):
            low = middle + 1
        else:
            high = middle
    return low


cdef class KeyBuffer:
    """Keys that were new since the buffer was made, with the addresses of their records.

    Thread-safety: changed while holding the GIL; not changed any more once it is frozen.
    """

    def __cinit__(self, removals_mark: int) -> None:
        self.removals_mark = removals_mark
        self.blocks = []

    def __dealloc__(self) -> None:
        free(self.entries)

    cdef int add(self, const char *key, uint32_t size, uint64_t address) except -1:
        """Add a key."""
        cdef KeyEntry *entry
        if self.count == self.room:
            entry = <KeyEntry *>realloc(self.entries, (2 * self.room + 64) * sizeof(KeyEntry))
            if entry == NULL:
                raise MemoryError
            self.entries, self.room = entry, 2 * self.room + 64
        if size > self.free_count:
            self._more_bytes(size)
        memcpy(self.free_bytes, key, size)
        entry = &self.entries[self.count]
        entry.prefix = prefix_of(key, size)
        entry.key, entry.size, entry.address = self.free_bytes, size, address
        self.free_bytes += size
        self.free_count -= size
        self.count += 1
        return 0

    cdef int _more_bytes(self, uint32_t size) except -1:
        # Blocks grow with the buffer, so that a small store stays small.
        cdef uint64_t room = max(<uint64_t>size, min(<uint64_t>BLOCK_BYTES, 16 * self.room))
        cdef bytes block = PyBytes_FromStringAndSize(NULL, room)
        self.blocks.append(block)
        self.free_bytes, self.free_count = PyBytes_AS_STRING(block), room
        return 0

    cdef int settle(self) except -1:
        """Sort what was added since the last time."""
        cdef uint64_t last, n = self.count - self.sorted_count
        if n == 0:
            return 0
        cdef KeyEntry *spare = <KeyEntry *>malloc(n * sizeof(KeyEntry))
        if spare == NULL:
            raise MemoryError
        sort_entries(self.entries + self.sorted_count, spare, n)
        free(spare)
        self.starts[self.stretches] = self.sorted_count
        self.stretches += 1
        self.sorted_count = self.count
        while self.stretches > 1:
            last = self.count - self.starts[self.stretches - 1]
            if self.starts[self.stretches - 1] - self.starts[self.stretches - 2] > 2 * last:
                break
            self._merge_last_two()
        return 0

    def settle_fully(self) -> None:
        """Make one sorted stretch of everything, for a frozen buffer.

        The sorting is done on a copy without the GIL; scans go on with the old entries.
        """
        cdef KeyEntry *entries
        cdef KeyEntry *spare
        cdef uint64_t count = self.count
        if self.sorted_count == count and self.stretches <= 1:
            return
        entries = <KeyEntry *>malloc(count * sizeof(KeyEntry))
        spare = <KeyEntry *>malloc(count * sizeof(KeyEntry))
        if entries == NULL or spare == NULL:
            free(entries)
            free(spare)
            raise MemoryError
        memcpy(entries, self.entries, count * sizeof(KeyEntry))
        with nogil:
            sort_entries(entries, spare, count)
        free(spare)
        free(self.entries)
        self.entries, self.room = entries, count
        self.starts[0], self.stretches, self.sorted_count = 0, 1, count

    cdef int _merge_last_two(self) except -1:
        cdef uint64_t first = self.starts[self.stretches - 2]
        cdef uint64_t middle = self.starts[self.stretches - 1]
        cdef uint64_t n = middle - first
        cdef uint64_t i = 0, j = middle, k = first
        cdef KeyEntry *left = <KeyEntry *>malloc(n * sizeof(KeyEntry))
        if left == NULL:
            raise MemoryError
        memcpy(left, self.entries + first, n * sizeof(KeyEntry))
        while i < n:
            # Of equal keys the older comes first, and readers take the newest of equals.
            if j < self.count and compare(&self.entries[j], &left[i]) < 0:
                self.entries[k] = self.entries[j]
                j += 1
            else:
                self.entries[k] = left[i]
                i += 1
            k += 1
        free(left)
        self.stretches -= 1
        return 0

    cdef uint64_t end_of(self, int stretch) noexcept nogil:
        """Return the index behind the last entry of a stretch."""
        return self.starts[stretch + 1] if stretch + 1 < self.stretches else self.sorted_count

    def memory_bytes(self) -> int:
        """Return the bytes of RAM that the buffer takes."""
        return self.room * sizeof(KeyEntry) + sum(len(block) for block in self.blocks)
