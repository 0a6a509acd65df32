"""Which keys of a bounded namespace were used, as C sees it."""

from libc.stdint cimport uint32_t, uint64_t

cdef class Recency:
    cdef uint32_t *words
    cdef uint64_t mask, seed
    cdef readonly bint is_frequency  # words are counters, not versions
    cdef uint64_t uses              # counted so far: the clock by which counters decay
    cdef int period                 # of that clock: a counter loses 1 in 2 ** period uses
    cdef uint64_t state             # of random numbers

    cdef void count_use(self, uint32_t *word) noexcept
    cdef uint64_t hash_of(self, bytes name) noexcept
    cdef uint64_t score(self, uint32_t word, uint64_t version, uint64_t now) noexcept


cdef inline void note_use(Recency self, uint64_t hash, uint64_t version) noexcept:
    """Note that the key of a hash is used now, which is a version of the store."""
    cdef uint32_t *word = &self.words[hash & self.mask]
    if self.is_frequency:
        self.count_use(word)
    else:
        word[0] = <uint32_t>version
