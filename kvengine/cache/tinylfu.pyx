"""The W-TinyLFU policy: LRU queues, and a filter between them (Einziger et al., 2017).

Invariants:

* Entries are in the window (1), on probation (2), protected (3), or pending: none of these.
* What leaves the window replaces an entry on probation only if it was asked for more often.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from kvengine.cache.policy cimport Policy, Queue, push, reset, unlink
from kvengine.cache.sketch cimport Sketch
from kvengine.cache.table cimport NO_SLOT

cdef enum:
    WINDOW = 1
    PROBATION = 2
    PROTECTED = 3
    HALVE_EVERY = 10            # operations for each entry

cdef double WINDOW_SHARE = 0.01
cdef double PROTECTED_SHARE = 0.8   # of what is not in the window


cdef class WTinyLfu(Policy):
    """A small window for what is new, the rest for what is asked for often.

    Thread-safety: the GIL.
    """

    def __init__(self, *args) -> None:
        self.sketch = Sketch(16, 15, self.table.keys_to_count())
        self.clear()

    def memory_usage(self) -> int:
        """Return how many bytes the sketch takes."""
        return self.sketch.memory_usage()

    cdef Queue *queue_of(self, int32_t slot) noexcept:
        cdef int number = self.table.slots[slot].queue
        if number == WINDOW:
            return &self.window
        return &self.probation if number == PROBATION else &self.protected

    cdef void hit(self, int32_t slot) noexcept:
        cdef int number = self.table.slots[slot].queue
        self.sketch.add(self.table.slots[slot].hash, 1)
        self.operations += 1
        unlink(self.table.slots, self.queue_of(slot), slot)
        if number == WINDOW:
            push(self.table.slots, &self.window, slot, WINDOW)
            return
        push(self.table.slots, &self.protected, slot, PROTECTED)
        while self.protected.bytes > PROTECTED_SHARE * (self.bytes - self.window.bytes):
            slot = self.protected.tail
            if slot == self.protected.head:
                return
            unlink(self.table.slots, &self.protected, slot)
            push(self.table.slots, &self.probation, slot, PROBATION)

    cdef void missed(self, uint32_t hash, uint32_t size) noexcept:
        self.sketch.add(hash, 1)

    cdef void insert(self, int32_t slot) noexcept:
        self.operations += 1
        self.bytes += self.table.slots[slot].size
        push(self.table.slots, &self.window, slot, WINDOW)

    cdef int32_t victim(self) noexcept:
        cdef int32_t slot, other
        cdef bint none
        if self.operations >= <uint64_t>HALVE_EVERY * self.table.count:
            self.operations = 0
            self.sketch.halve()
        while True:
            none = self.probation.count == 0 and self.protected.count == 0
            if self.pending == NO_SLOT and (
                none or (self.window.count > 1
                         and self.window.bytes > WINDOW_SHARE * self.bytes)
            ):
                self.pending = self.window.tail
                if self.pending == NO_SLOT:
                    return NO_SLOT
                unlink(self.table.slots, &self.window, self.pending)
            if none:
                slot, self.pending = self.pending, NO_SLOT
                if self.window.count:
                    push(self.table.slots, &self.probation, slot, PROBATION)
                    continue
            else:
                other = self.probation.tail if self.probation.count else self.protected.tail
                if self.pending == NO_SLOT or self.is_wanted_more(self.pending, other):
                    slot = other
                    unlink(self.table.slots, self.queue_of(slot), slot)
                else:
                    slot, self.pending = self.pending, NO_SLOT
            self.bytes -= self.table.slots[slot].size
            return slot

    cdef bint is_wanted_more(self, int32_t slot, int32_t other) noexcept:
        cdef int mine = self.sketch.estimate(self.table.slots[slot].hash)
        return mine > self.sketch.estimate(self.table.slots[other].hash)

    cdef void settle(self) noexcept:
        cdef int32_t slot
        if self.pending != NO_SLOT:
            slot, self.pending = self.pending, NO_SLOT
            push(self.table.slots, &self.probation, slot, PROBATION)
        while self.window.count > 1 and self.window.bytes > WINDOW_SHARE * self.bytes:
            slot = self.window.tail
            unlink(self.table.slots, &self.window, slot)
            push(self.table.slots, &self.probation, slot, PROBATION)

    cdef void remove(self, int32_t slot) noexcept:
        unlink(self.table.slots, self.queue_of(slot), slot)
        self.bytes -= self.table.slots[slot].size

    cdef void resized(self, int32_t slot, uint32_t size) noexcept:
        cdef int64_t more = <int64_t>size - self.table.slots[slot].size
        self.queue_of(slot).bytes += more
        self.bytes += more
        self.table.slots[slot].size = size
        self.hit(slot)

    cdef void clear(self) noexcept:
        reset(&self.window)
        reset(&self.probation)
        reset(&self.protected)
        self.bytes, self.pending = 0, NO_SLOT

    cdef void fit(self, int64_t entries) noexcept:
        self.sketch.fit(entries)
