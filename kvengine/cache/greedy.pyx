"""The greedy-dual policy: it evicts the entries that are worth least for their size.

A new entry enters a window, a queue with a share of the room.  An entry that leaves the window may
enter the main part, which has a queue for each class of worth: twice the logarithm of how often a
key was requested, over its size.  The victim is the oldest entry of the class whose oldest entry is
worth least.  Its worth is added to all later entries (inflation), so that an entry that is no
longer requested is evicted in the end.  A hit only marks a slot; a marked entry that would be the
victim is put into its queue again (lazy promotion).

GreedyDual-Size with frequency: Cherkasova 1998; the window and its filter: TinyLFU, Einziger,
Friedman and Manes 2017; queues by class instead of a heap, and lazy promotion, from FIFO caches.

Invariants:

* Slots are in the window (queue 1), in a class of the main part (2 and above), or pending.
* The sketch remembers how often a key was requested after its entry is evicted.
"""

from libc.math cimport floor, log2, pow

from kvengine.cache.policy cimport push, reset, unlink
from kvengine.cache.table cimport NO_SLOT

cdef enum:
    WINDOW = 1
    FIRST_CLASS = 2
    MIDDLE = 72                 # the class of what was asked for once and has size 1
    HALVE_EVERY = 40            # operations for each entry
    LARGE_PART = 16             # one part in so many of the capacity
    LARGE_TIMES = 4             # times the average size

cdef extern from *:
    """
    #define kv_lowest(bits) __builtin_ctzll(bits)
    """
    int kv_lowest(unsigned long long bits) noexcept nogil

cdef double[2 * FREQUENCY_MAX + 3] LOGARITHMS
cdef double[CLASSES] WORTHS


def _fill() -> None:
    cdef int i
    for i in range(1, 2 * FREQUENCY_MAX + 3):
        LOGARITHMS[i] = log2(<double>i)
    for i in range(CLASSES):
        WORTHS[i] = pow(2.0, (i - MIDDLE) / 2.0)


_fill()


cdef class Greedy(Policy):
    """Entries go by how much they are worth for their size.

    Args:
        table, capacity: see Policy.
        size_weight: 1 makes most requests hits; 0 makes most bytes hits.
        size_floor: smaller entries count as if they had this size.
        window: the share of the window.
        admission: 0, 1 or 2: see Admission.
        by_frequency: see Candidate.

    Thread-safety: the GIL.
    """

    def __init__(
        self, table, capacity, size_weight: float = 1.0, size_floor: float = 1.0,
        window: float = 0.01, admission: int = 0, by_frequency: bool = True,
    ) -> None:
        self.size_weight, self.size_floor = size_weight, size_floor
        self.candidate = Candidate(window, <Admission><int>admission, by_frequency)
        self.window_share = window
        self.sketch = Sketch(16, FREQUENCY_MAX, self.table.keys_to_count())
        self.clear()

    def memory_usage(self) -> int:
        """Return how many bytes it takes, besides the slots."""
        return self.sketch.memory_usage() + sizeof(Queue) * CLASSES

    # -- worth

    cdef int frequency(self, int32_t slot) noexcept:
        """Return how often an entry was read lately."""
        cdef Slot *found = &self.table.slots[slot]
        cdef int halvings = <uint8_t>(self.epoch - found.epoch)
        return found.freq >> halvings if halvings < 8 else 0

    cdef int class_of(self, int32_t slot) noexcept:
        cdef Slot *found = &self.table.slots[slot]
        cdef double worth = 0.0, size
        cdef int number
        if self.candidate.by_frequency:
            worth = LOGARITHMS[self.frequency(slot) + 1 + self.sketch.estimate(found.hash)]
        if self.size_weight:
            size = max(<double>found.size, self.size_floor)
            if size > 1:
                worth -= self.size_weight * log2(size)
        number = <int>floor(2 * worth) + MIDDLE
        return min(max(number, 0), CLASSES - 1)

    # -- the main part

    cdef void enqueue(self, int32_t slot) noexcept:
        """Put a slot in the class of its worth."""
        cdef int number = self.class_of(slot)
        cdef Queue *queue = &self.main[number]
        self.table.slots[slot].ref = 0
        self.table.slots[slot].stamp = self.inflation + WORTHS[number]
        if queue.count == 0:
            self.lowest[number] = self.table.slots[slot].stamp
            self.filled[number >> 6] |= <uint64_t>1 << (number & 63)
        push(self.table.slots, queue, slot, <uint8_t>(number + FIRST_CLASS))
        self.main_count += 1

    cdef void dequeue(self, int32_t slot) noexcept:
        cdef int number = self.table.slots[slot].queue - FIRST_CLASS
        cdef Queue *queue = &self.main[number]
        unlink(self.table.slots, queue, slot)
        if queue.count == 0:
            self.filled[number >> 6] &= ~(<uint64_t>1 << (number & 63))
        else:
            self.lowest[number] = self.table.slots[queue.tail].stamp
        self.main_count -= 1

    cdef int32_t lowest_priority(self) noexcept:
        """Return the entry that is worth least and was not read; others move up meanwhile."""
        cdef uint64_t classes
        cdef int word, number, best
        cdef int32_t slot
        while self.main_count:
            best = -1
            for word in range(2):
                classes = self.filled[word]
                while classes:
                    number = word * 64 + kv_lowest(classes)
                    classes &= classes - 1
                    if best < 0 or self.lowest[number] < self.lowest[best]:
                        best = number
            slot = self.main[best].tail
            if self.table.slots[slot].ref == 0:
                return slot
            self.dequeue(slot)
            self.enqueue(slot)
        return NO_SLOT

    cdef void note(self, int32_t slot) noexcept:
        """Remember of an entry that goes how often it was read."""
        cdef int frequency = self.frequency(slot)
        if frequency:
            self.sketch.add(self.table.slots[slot].hash, frequency)

    cdef bint admits(self, int32_t slot, int32_t other) noexcept:
        """True if an entry may come into the main part instead of another one."""
        cdef Slot *one = &self.table.slots[slot]
        cdef Slot *two = &self.table.slots[other]
        cdef double mine, its
        if self.candidate.admission == ALL:
            return True
        mine = self.sketch.estimate(one.hash)
        if self.candidate.admission == AGAIN:
            return one.ref > 0 or mine >= 2
        mine += self.frequency(slot)
        its = self.sketch.estimate(two.hash) + self.frequency(other)
        if one.size != two.size and self.size_weight:
            its *= pow(
                max(<double>one.size, self.size_floor) / max(<double>two.size, self.size_floor),
                self.size_weight)
        return mine > its

    # -- the interface

    cdef void missed(self, uint32_t hash, uint32_t size) noexcept:
        self.sketch.add(hash, 1)

    cdef void insert(self, int32_t slot) noexcept:
        self.operations += 1
        self.bytes += self.table.slots[slot].size
        self.table.slots[slot].epoch = self.epoch
        if self.is_large(self.table.slots[slot].size) and self.main_count:
            self.pending = slot  # else it would push out many that are worth more
        else:
            push(self.table.slots, &self.window, slot, WINDOW)

    cdef bint is_large(self, int64_t size) noexcept:
        """True for an entry that takes a good part of the cache, and is no usual one."""
        return size * LARGE_PART > self.capacity and (
            size * self.table.count > LARGE_TIMES * self.bytes)

    cdef int32_t victim(self) noexcept:
        cdef int32_t slot, other
        if self.operations >= <uint64_t>HALVE_EVERY * self.table.count:
            self.grow_old()
        while True:
            if self.pending == NO_SLOT:
                if not self.main_count or (
                    self.window.count > 1
                    and self.window.bytes > self.window_share * self.bytes
                ):
                    self.pending = self.window.tail
                    if self.pending == NO_SLOT:
                        return NO_SLOT
                    unlink(self.table.slots, &self.window, self.pending)
                else:
                    other = self.lowest_priority()
                    return self.gone(other)
            other = self.lowest_priority()
            if other == NO_SLOT:
                slot, self.pending = self.pending, NO_SLOT
                if self.window.count == 0:
                    self.bytes -= self.table.slots[slot].size
                    return slot
                self.enqueue(slot)
            elif self.admits(self.pending, other):
                return self.gone(other)
            else:
                slot, self.pending = self.pending, NO_SLOT
                self.note(slot)
                self.bytes -= self.table.slots[slot].size
                return slot

    cdef int32_t gone(self, int32_t slot) noexcept:
        """Let an entry of the main part go."""
        self.inflation = max(self.inflation, self.table.slots[slot].stamp)
        self.note(slot)
        self.dequeue(slot)
        self.bytes -= self.table.slots[slot].size
        return slot

    cdef void settle(self) noexcept:
        cdef int32_t slot
        if self.pending != NO_SLOT:
            slot, self.pending = self.pending, NO_SLOT
            self.enqueue(slot)
        while self.window.count > 1 and self.window.bytes > self.window_share * self.bytes:
            slot = self.window.tail
            unlink(self.table.slots, &self.window, slot)
            self.enqueue(slot)

    cdef void remove(self, int32_t slot) noexcept:
        if self.table.slots[slot].queue == WINDOW:
            unlink(self.table.slots, &self.window, slot)
        else:
            self.dequeue(slot)
        self.bytes -= self.table.slots[slot].size

    cdef void resized(self, int32_t slot, uint32_t size) noexcept:
        """What it is worth is found out when it would be the victim."""
        cdef Queue *queue = &self.window
        cdef uint32_t old = self.table.slots[slot].size
        if self.table.slots[slot].queue != WINDOW:
            queue = &self.main[self.table.slots[slot].queue - FIRST_CLASS]
        queue.bytes += <int64_t>size - old
        self.bytes += <int64_t>size - old
        self.table.slots[slot].size = size
        mark(&self.table.slots[slot], self.epoch)

    cdef void grow_old(self) noexcept:
        """What was popular long ago fades."""
        self.operations = 0
        self.epoch += 1
        self.sketch.halve()

    cdef void clear(self) noexcept:
        cdef int number
        reset(&self.window)
        for number in range(CLASSES):
            reset(&self.main[number])
        self.filled[0] = self.filled[1] = 0
        self.main_count, self.bytes = 0, 0
        self.inflation, self.pending = 0.0, NO_SLOT

    cdef void fit(self, int64_t entries) noexcept:
        self.sketch.fit(entries)
