"""How often keys were requested, approximately: a count-min sketch of small counters.

The four counters of a key are in one block of 64 bytes, a single cache line.  Only the lowest of
the four are incremented, which keeps shared counters from counting twice.

Invariants:

* Up to the limit, an estimate is never below the number of additions, halved as often as all were.
* A growing sketch keeps its counts: each block is copied, so that two copies lie side by side.
"""

cimport cython
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

cdef enum:
    BLOCK = 64
    ROWS = 4
    COUNTERS_A_KEY = 8
    FIRST_BLOCKS = 64           # at the most, where it begins


cdef inline uint64_t spread(uint32_t hash) noexcept nogil:
    cdef uint64_t wide = (<uint64_t>hash + 1) * <uint64_t>0x9E3779B97F4A7C15
    return wide ^ (wide >> 29)


cdef inline uint64_t block_of(uint64_t wide, uint64_t blocks) noexcept nogil:
    """Return the block of a key among so many, which need not be a power of two."""
    return (<uint64_t><uint32_t>wide * blocks) >> 32


cdef inline uint64_t blocks_for(uint64_t keys) noexcept nogil:
    return (keys * COUNTERS_A_KEY + BLOCK - 1) // BLOCK


@cython.final
cdef class Sketch:
    """Counts of keys by their hash.

    Args:
        keys: how many keys matter at a time; eight bytes are taken for each.
        most: where counters end, at most 255.
        keys_max: how many keys may ever matter; it never takes more for them.  0: not known.

    Thread-safety: the GIL.
    """

    def __cinit__(self, keys: int, most: int = 63, keys_max: int = 0) -> None:
        cdef uint64_t blocks = max(blocks_for(keys_max or keys), <uint64_t>1)
        while blocks > FIRST_BLOCKS and blocks // 2 >= blocks_for(keys):
            blocks = (blocks + 1) // 2  # such that doubling ends where there is room for all
        self.counters = <uint8_t *>calloc(blocks, BLOCK)
        if self.counters == NULL:
            raise MemoryError
        self.blocks, self.most = blocks, most

    def __dealloc__(self) -> None:
        free(self.counters)

    def memory_usage(self) -> int:
        """Return how many bytes the counters take."""
        return self.blocks * BLOCK

    cdef int estimate(self, uint32_t hash) noexcept:
        """Return how often a key was added, or a little more."""
        cdef uint64_t wide = spread(hash)
        cdef uint8_t *block = self.counters + block_of(wide, self.blocks) * BLOCK
        cdef int row, least = 255
        for row in range(ROWS):
            least = min(least, block[row * 16 + ((wide >> (40 + 4 * row)) & 15)])
        return least

    cdef void add(self, uint32_t hash, int times) noexcept:
        """Count a key."""
        cdef uint64_t wide = spread(hash)
        cdef uint8_t *block = self.counters + block_of(wide, self.blocks) * BLOCK
        cdef uint8_t *counter
        cdef int row, raised = min(self.estimate(hash) + times, <int>self.most)
        for row in range(ROWS):
            counter = &block[row * 16 + ((wide >> (40 + 4 * row)) & 15)]
            if counter[0] < raised:
                counter[0] = <uint8_t>raised

    cdef void halve(self) noexcept:
        """Let all counts be half of what they were: what was popular long ago fades."""
        cdef uint64_t i, count = self.blocks * BLOCK // 8
        cdef uint64_t *words = <uint64_t *>self.counters
        for i in range(count):
            words[i] = (words[i] >> 1) & <uint64_t>0x7F7F7F7F7F7F7F7F

    cdef bint fit(self, uint64_t keys) noexcept:
        """Grow until there is room for so many keys; return False if memory has run out."""
        cdef uint64_t i
        cdef uint8_t *counters
        while self.blocks < blocks_for(keys):
            counters = <uint8_t *>realloc(self.counters, self.blocks * 2 * BLOCK)
            if counters == NULL:
                return False
            for i in range(self.blocks - 1, -1, -1):
                memcpy(counters + (2 * i + 1) * BLOCK, counters + i * BLOCK, BLOCK)
                if i:
                    memcpy(counters + 2 * i * BLOCK, counters + i * BLOCK, BLOCK)
            self.counters = counters
            self.blocks *= 2
        return True

    def clear(self) -> None:
        """Forget everything."""
        memset(self.counters, 0, self.blocks * BLOCK)

    def add_hash(self, key_hash: int, times: int = 1) -> None:
        """Count a key by its hash; for tests."""
        self.add(key_hash, times)

    def estimate_hash(self, key_hash: int) -> int:
        """Return the count of a key by its hash; for tests."""
        return self.estimate(key_hash)

    def halve_all(self) -> None:
        """Halve all counts; for tests."""
        self.halve()

    def make_room(self, keys: int) -> None:
        """Grow until there is room for so many keys; for tests."""
        if not self.fit(keys):
            raise MemoryError
