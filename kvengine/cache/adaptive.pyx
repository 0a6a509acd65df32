"""The adaptive policy: small models of the cache find out which settings would be best.

A fixed share of the keys is a sample.  Requests for sampled keys also go to shadows: caches without
values, smaller in the same ratio, one for each candidate, which is a setting of the greedy policy.
The cache adopts the candidate whose shadow has had the most hits lately (miniature simulation:
Waldspurger, Saemundsson, Ahmad and Park 2017).

Invariants:

* A key is either always a sample or never.
* A shadow affects the cache only through the choice of the candidate.
* Shadows are created only in `prepare`; without memory for them, the candidate stays the same.
* The choice changes only if another candidate is ahead by more than chance explains.
"""

from libc.math cimport sqrt

from kvengine.cache.greedy cimport mark
from kvengine.cache.table cimport NO_SLOT

CANDIDATES = (  # share of the window, admission, by frequency
    (0.01, 1, True),
    (0.1, 1, True),
    (0.4, 1, True),
    (0.0, 0, True),
    (0.0, 0, False),
    (0.1, 2, True),
    (0.01, 1, False),
)
FIRST_CANDIDATE = 6  # what suits short histories: loops are kept, and the others soon show if not

cdef enum:
    SHADOW_ENTRIES = 256        # at the least, if the cache has so many
    PERIOD = 2                  # requests for each entry of a shadow, between two choices

cdef double FADE = 0.95         # what hits count after another period
cdef double CHANCE = 0.3         # how many times the root of its hits a candidate must be ahead
cdef double STEP = 0.01         # by which the window grows or shrinks with a miss


cdef class Shadow:
    """A cache of sizes.

    Args:
        capacity: what the sizes may come to.
        entries: how many there will be, about.
        candidate: the settings of the greedy policy.
        size_weight, size_floor: see Greedy.

    Thread-safety: the GIL.
    """

    def __cinit__(
        self, double capacity, int64_t entries, candidate, double size_weight, double size_floor
    ) -> None:
        self.table = Table()
        self.policy = Greedy(self.table, capacity, size_weight, size_floor, *candidate)
        self.policy.fit(2 * entries)

    def memory_usage(self) -> int:
        """Return how many bytes it takes."""
        return self.table.memory_usage() + self.policy.memory_usage()

    cdef void access(self, uint32_t hash, uint32_t size, bint by_bytes) noexcept:
        """A key of this size was asked for; if it is not there, it comes in."""
        cdef int32_t slot = self.table.find_hash(hash)
        cdef Greedy policy = self.policy
        policy.operations += 1
        if slot != NO_SLOT:
            mark(&self.table.slots[slot], policy.epoch)
            self.score += size if by_bytes else 1
            return
        if size > policy.capacity or not self.table.reserve():
            return
        policy.missed(hash, size)
        slot = self.table.take(hash)
        self.table.slots[slot].size = size
        policy.insert(slot)
        while policy.bytes > policy.capacity:
            self.table.give_back(policy.victim())
        policy.settle()


cdef class Adaptive(Greedy):
    """The greedy policy with that candidate which would have been best lately.

    Args:
        table, capacity, size_weight, size_floor: see Greedy.  With a size_weight of 0 the best
            candidate is that with most bytes hit, else that with most requests hit.

    Thread-safety: the GIL.
    """

    def __init__(
        self, table, capacity, size_weight: float = 1.0, size_floor: float = 1.0
    ) -> None:
        super().__init__(table, capacity, size_weight, size_floor, *CANDIDATES[FIRST_CANDIDATE])
        self.chosen = FIRST_CANDIDATE
        self.by_bytes = size_weight == 0
        self.shadows = []

    def memory_usage(self) -> int:
        """Return how many bytes it takes, besides the slots."""
        return super().memory_usage() + sum(shadow.memory_usage() for shadow in self.shadows)

    cdef void sampled(self, uint32_t hash, uint32_t size) noexcept:
        """A key that is a sample was asked for."""
        cdef Shadow shadow
        for shadow in self.shadows:
            shadow.access(hash, size, self.by_bytes)
        self.seen += 1
        if self.seen >= self.period:
            self.choose()

    cdef void choose(self) noexcept:
        cdef Shadow shadow
        cdef int number, best = self.chosen
        cdef double best_score = (<Shadow>self.shadows[best]).score
        best_score += CHANCE * sqrt(best_score)
        for number in range(len(self.shadows)):
            shadow = <Shadow>self.shadows[number]
            if shadow.score > best_score and number != self.chosen:
                best, best_score = number, shadow.score
        for shadow in self.shadows:
            shadow.score *= FADE
        self.seen = 0
        if best != self.chosen:
            self.chosen = best
            self.candidate = (<Shadow>self.shadows[best]).policy.candidate

    cdef void missed(self, uint32_t hash, uint32_t size) noexcept:
        self.sketch.add(hash, 1)
        if self.sample_shift and is_sample(hash, self.sample_shift):
            self.sampled(hash, size)
        if self.window_share != self.candidate.window:
            # The window grows and shrinks slowly: what is in it has its time.
            if self.window_share < self.candidate.window:
                self.window_share = min(self.candidate.window, self.window_share + STEP)
            else:
                self.window_share = max(self.candidate.window, self.window_share - STEP)

    cdef void insert(self, int32_t slot) noexcept:
        cdef double full
        Greedy.insert(self, slot)
        if self.sized_for == 0 and self.bytes * 8 >= self.capacity:
            full = self.capacity / self.bytes if self.bytes else 1.0
            self.wanted = <int64_t>(self.table.count * max(full, 1.0))

    cdef int32_t victim(self) noexcept:
        if self.table.count > 4 * self.sized_for or self.table.count < self.sized_for // 4:
            self.wanted = self.table.count
        return Greedy.victim(self)

    cdef int prepare(self) except -1:
        """Make shadows if the cache has begun to fill, or has other sizes than they have."""
        cdef int64_t entries = self.wanted
        if entries:
            self.wanted = 0
            try:
                self.make_shadows(entries)
            except MemoryError:
                pass
        return 0

    cdef int make_shadows(self, int64_t entries) except -1:
        """Make shadows for a cache that is full with so many entries; anything may run."""
        cdef int halvings = 0
        while entries >> (halvings + 1) >= SHADOW_ENTRIES:
            halvings += 1
        cdef int64_t part = max(entries >> halvings, <int64_t>1)
        cdef double capacity = max(self.capacity / (1 << halvings), 1.0)
        cdef list shadows = [
            Shadow(capacity, part, candidate, self.size_weight, self.size_floor)
            for candidate in CANDIDATES
        ]
        self.shadows, self.sized_for = shadows, entries
        self.sample_shift = 32 - halvings
        self.seen, self.period = 0, max(<uint64_t>PERIOD * part, <uint64_t>64)
        return 0
