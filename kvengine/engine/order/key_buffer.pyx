"""New keys in memory: added without order, sorted when order is needed.

Invariants:

* Adding never sorts and never moves a key: keys are in blocks of memory that stay in place.
* The entries are sorted runs of decreasing length, then an unsorted rest.  settle() sorts the
  rest and merges runs of similar length, so that adding and listing in turn costs each key a
  logarithmic number of moves.
"""

from libc.string cimport memcpy

from kvengine.engine.order.key_sort cimport KeyEntry, compare, prefix_of, sort_entries

cdef enum:
    BLOCK_BYTES = 256 << 10


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

    def __dealloc__(self) -> None:
        cdef Block *block
        kv_give(self.entries, self.room * sizeof(KeyEntry))
        while self.blocks != NULL:
            block, self.blocks = self.blocks, self.blocks.next
            kv_give(block, block.size)

    cdef int add(self, const char *key, uint32_t size, uint64_t address) except -1:
        """Add a key."""
        if not self.reserve(1, size):
            raise MemoryError
        self.add_reserved(key, size, address)
        return 0

    cdef bint reserve(self, uint64_t keys, uint64_t size) noexcept:
        """Have room for keys of so many bytes together; False: there is no memory."""
        if self.count + keys > self.room and not self._more_entries(self.count + keys):
            return False
        # What fits into neither block alone may still fit into both: then this is one too many.
        return size <= self.free_count or size <= self.spare_count or self._more_bytes(size)

    cdef void add_reserved(self, const char *key, uint32_t size, uint64_t address) noexcept:
        """Add a key that reserve() made room for."""
        cdef KeyEntry *entry
        if size > self.free_count:
            self.free_bytes, self.free_count = self.spare_bytes, self.spare_count
            self.spare_count = 0
        memcpy(self.free_bytes, key, size)
        entry = &self.entries[self.count]
        entry.prefix = prefix_of(key, size)
        entry.key, entry.size, entry.address = self.free_bytes, size, address
        self.free_bytes += size
        self.free_count -= size
        self.count += 1

    cdef bint _more_entries(self, uint64_t wanted) noexcept:
        cdef uint64_t room = max(2 * self.room + 64, wanted)
        cdef KeyEntry *entries = <KeyEntry *>kv_take(room * sizeof(KeyEntry))
        if entries == NULL:
            return False
        if self.count:
            memcpy(entries, self.entries, self.count * sizeof(KeyEntry))
        kv_give(self.entries, self.room * sizeof(KeyEntry))
        self.entries, self.room = entries, room
        return True

    cdef bint _more_bytes(self, uint64_t size) noexcept:
        # Blocks grow with the buffer, so that a small store stays small.
        cdef uint64_t room = max(<uint64_t>size, min(<uint64_t>BLOCK_BYTES, 16 * self.room))
        cdef Block *block = <Block *>kv_take(sizeof(Block) + room)
        if block == NULL:
            return False
        block.next, block.size = self.blocks, sizeof(Block) + room
        self.blocks = block
        self.spare_bytes, self.spare_count = <char *>(block + 1), room
        return True

    cdef int settle(self) except -1:
        """Sort what was added since the last time."""
        cdef uint64_t last, n = self.count - self.sorted_count
        if n == 0:
            return 0
        cdef KeyEntry *spare = <KeyEntry *>kv_take(n * sizeof(KeyEntry))
        if spare == NULL:
            raise MemoryError
        sort_entries(self.entries + self.sorted_count, spare, n)
        kv_give(spare, n * sizeof(KeyEntry))
        self.starts[self.sorted_runs] = self.sorted_count
        self.sorted_runs += 1
        self.sorted_count = self.count
        while self.sorted_runs > 1:
            last = self.count - self.starts[self.sorted_runs - 1]
            if self.starts[self.sorted_runs - 1] - self.starts[self.sorted_runs - 2] > 2 * last:
                break
            self._merge_last_runs()
        return 0

    def settle_fully(self) -> None:
        """Make one sorted run of everything, for a frozen buffer.

        The sorting is done on a copy without the GIL; scans go on with the old entries.
        """
        cdef KeyEntry *entries
        cdef KeyEntry *spare
        cdef uint64_t count = self.count, size
        if self.sorted_count == count and self.sorted_runs <= 1:
            return
        size = count * sizeof(KeyEntry)
        entries = <KeyEntry *>kv_take(size)
        spare = <KeyEntry *>kv_take(size)
        if entries == NULL or spare == NULL:
            kv_give(entries, size)
            kv_give(spare, size)
            raise MemoryError
        memcpy(entries, self.entries, size)
        with nogil:
            sort_entries(entries, spare, count)
        kv_give(spare, size)
        kv_give(self.entries, self.room * sizeof(KeyEntry))
        self.entries, self.room = entries, count
        self.starts[0], self.sorted_runs, self.sorted_count = 0, 1, count

    cdef int _merge_last_runs(self) except -1:
        cdef uint64_t first = self.starts[self.sorted_runs - 2]
        cdef uint64_t middle = self.starts[self.sorted_runs - 1]
        cdef uint64_t n = middle - first
        cdef uint64_t i = 0, j = middle, k = first
        cdef KeyEntry *left = <KeyEntry *>kv_take(n * sizeof(KeyEntry))
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
        kv_give(left, n * sizeof(KeyEntry))
        self.sorted_runs -= 1
        return 0

    cdef uint64_t end_of(self, int run) noexcept nogil:
        """Return the index behind the last entry of a run."""
        return self.starts[run + 1] if run + 1 < self.sorted_runs else self.sorted_count

    def memory_bytes(self) -> int:
        """Return the bytes of RAM that the buffer takes."""
        cdef uint64_t size = self.room * sizeof(KeyEntry)
        cdef Block *block = self.blocks
        while block != NULL:
            size += block.size
            block = block.next
        return size
