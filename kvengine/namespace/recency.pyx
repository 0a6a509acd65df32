"""Recency: about when, or how often, the keys of a bounded namespace were used.

Time is the store's version, which grows with each change, so the record of a key says itself when
it was written, and only reads need to be noted.  Each key has one word of a table by its hash.  For
"lru" it is the version at the key's last read; for "lfu" a counter as in Redis: eight bits, which
grow with the logarithm of the uses and decay when there are none.

Invariants:

* It is never the truth: a word that is lost, or that several keys share, makes a worse choice of
  what is evicted, and nothing else.
* To note a read costs one store of a word.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from kvengine.engine.index.hash cimport xxh3

cdef double GROWTH = 1.08       # of the uses that a counter stands for, with each step of it
cdef enum:
    COUNTER_BITS = 8
    COUNTER_MAX = 255
    MOMENT_MASK = (1 << 24) - 1
    VERSION_BITS = 48
    PERIOD_MORE = 3             # a counter loses 1 in 2 ** 3 times as many uses as there are keys
    BITS_MIN = 16               # words for keys that were evicted, too: they may come back
    BITS_MAX = 22

cdef uint32_t[COUNTER_MAX + 1] chances  # of 2 ** 32, that a use lets a counter grow


cdef int set_chances() except -1:
    cdef int counter
    for counter in range(COUNTER_MAX + 1):
        chances[counter] = <uint32_t>(0xFFFFFFFF / GROWTH ** counter)
    return 0


set_chances()


cdef class Recency:
    """The table of one namespace.

    Args:
        keys: about how many there are.
        is_frequency: count uses, for "lfu"; else note the last one, for "lru".
        seed: with which the store hashes keys.

    Thread-safety: used while holding the GIL.
    """

    def __cinit__(self, keys: int, is_frequency: bool, seed: int) -> None:
        cdef int size = min(keys.bit_length(), BITS_MAX - 1), bits = max(size + 1, BITS_MIN)
        self.mask, self.seed = (1 << bits) - 1, seed
        self.is_frequency, self.period = is_frequency, size + PERIOD_MORE
        self.state = 0x9E3779B97F4A7C15
        self.words = <uint32_t *>calloc(<size_t>1 << bits, sizeof(uint32_t))
        if self.words == NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.words)

    cdef void count_use(self, uint32_t *word) noexcept:
        """Let a counter decay, and grow with the probability that its size allows."""
        cdef uint32_t moment = <uint32_t>(self.uses >> self.period) & MOMENT_MASK
        cdef uint32_t idle = (moment - (word[0] >> COUNTER_BITS)) & MOMENT_MASK
        cdef uint32_t counter = word[0] & COUNTER_MAX
        counter -= min(idle, counter)
        self.uses += 1
        self.state ^= self.state << 13
        self.state ^= self.state >> 7
        self.state ^= self.state << 17
        if counter < COUNTER_MAX and <uint32_t>(self.state >> 32) <= chances[counter]:
            counter += 1
        word[0] = moment << COUNTER_BITS | counter

    cdef uint64_t hash_of(self, bytes name) noexcept:
        return xxh3(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), self.seed)

    def note(self, names: list[bytes], version: int) -> None:
        """Note that keys are used now, which is a version of the store."""
        cdef bytes name
        for name in names:
            note_use(self, self.hash_of(name), version)

    cdef uint64_t score(self, uint32_t word, uint64_t version, uint64_t now) noexcept:
        """Return what is least for the key that should go first."""
        cdef uint32_t counter, idle
        cdef uint64_t read
        if not self.is_frequency:
            read = now - <uint32_t>(<uint32_t>now - word)
            return max(read, version)
        counter = word & COUNTER_MAX
        idle = (<uint32_t>(self.uses >> self.period) - (word >> COUNTER_BITS)) & MOMENT_MASK
        return <uint64_t>(counter - min(idle, counter)) << VERSION_BITS | version

    def worst_first(self, found: list[tuple[bytes, int, int]], now: int) -> list:
        """Return keys in the order in which they should go.

        Args:
            found: tuples that begin with (key, bytes, version).
            now: the version of the store.
        """
        cdef tuple one
        cdef list scored = []
        for one in found:
            word = self.words[self.hash_of(one[0]) & self.mask]
            scored.append((self.score(word, one[2], now), one))
        scored.sort()
        return [pair[1] for pair in scored]
