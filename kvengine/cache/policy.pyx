"""The interface of eviction policies, and LRU.

A cache calls `prepare` before it begins, and `insert` when it has taken a slot.  Then it calls
`victim` until its bounds hold, freeing a slot each time, and then `settle`.  The newest entry is
never the victim unless it is the only one.

Invariants:

* Every slot in use is in exactly one queue, and the queues of a policy hold no other slots.
* `bytes` is the sum of the sizes of the entries.
* No Python code runs in a policy, and nothing fails, except `prepare`: see entries.pyx.
"""


cdef void reset(Queue *queue) noexcept:
    queue.head = queue.tail = NO_SLOT
    queue.bytes = queue.count = 0


cdef void push(Slot *slots, Queue *queue, int32_t slot, uint8_t number) noexcept:
    """Put a slot at the head of a queue."""
    slots[slot].queue = number
    slots[slot].prev = NO_SLOT
    slots[slot].next = queue.head
    if queue.head != NO_SLOT:
        slots[queue.head].prev = slot
    else:
        queue.tail = slot
    queue.head = slot
    queue.bytes += slots[slot].size
    queue.count += 1


cdef void unlink(Slot *slots, Queue *queue, int32_t slot) noexcept:
    """Take a slot out of its queue."""
    if slots[slot].prev != NO_SLOT:
        slots[slots[slot].prev].next = slots[slot].next
    else:
        queue.head = slots[slot].next
    if slots[slot].next != NO_SLOT:
        slots[slots[slot].next].prev = slots[slot].prev
    else:
        queue.tail = slots[slot].prev
    queue.bytes -= slots[slot].size
    queue.count -= 1
    slots[slot].queue = 0


cdef class Policy:
    """The interface.

    Args:
        table: the slots of the cache.
        capacity: what the sizes of all entries may come to, about.

    Thread-safety: the GIL.
    """

    def __cinit__(self, Table table not None, double capacity, *args) -> None:
        self.table, self.capacity = table, capacity

    def memory_usage(self) -> int:
        """Return how many bytes it takes, besides the slots."""
        return 0

    cdef void hit(self, int32_t slot) noexcept:
        """An entry was read."""

    cdef int prepare(self) except -1:
        """A value will be set: the place for what creates objects, so that anything may run."""
        return 0

    cdef void missed(self, uint32_t hash, uint32_t size) noexcept:
        """A key is inserted that was not there, before there is a slot for it."""

    cdef void insert(self, int32_t slot) noexcept:
        """An entry has come."""

    cdef int32_t victim(self) noexcept:
        """Return the entry that goes; it is in no queue any more.  NO_SLOT: there is none."""
        return NO_SLOT

    cdef void settle(self) noexcept:
        """The bounds hold again."""

    cdef void remove(self, int32_t slot) noexcept:
        """An entry was deleted."""

    cdef void resized(self, int32_t slot, uint32_t size) noexcept:
        """An entry got another value."""

    cdef void clear(self) noexcept:
        """All entries were deleted."""

    cdef void fit(self, int64_t entries) noexcept:
        """There are so many entries now: what is sized by them may grow, if there is memory."""


cdef class Lru(Policy):
    """The entry goes that was not read for the longest time."""

    def __init__(self, *args) -> None:
        reset(&self.queue)

    cdef void hit(self, int32_t slot) noexcept:
        if self.queue.head != slot:
            unlink(self.table.slots, &self.queue, slot)
            push(self.table.slots, &self.queue, slot, 1)

    cdef void insert(self, int32_t slot) noexcept:
        push(self.table.slots, &self.queue, slot, 1)
        self.bytes += self.table.slots[slot].size

    cdef int32_t victim(self) noexcept:
        cdef int32_t slot = self.queue.tail
        if slot != NO_SLOT:
            self.remove(slot)
        return slot

    cdef void remove(self, int32_t slot) noexcept:
        unlink(self.table.slots, &self.queue, slot)
        self.bytes -= self.table.slots[slot].size

    cdef void resized(self, int32_t slot, uint32_t size) noexcept:
        self.remove(slot)
        self.table.slots[slot].size = size
        push(self.table.slots, &self.queue, slot, 1)
        self.bytes += size

    cdef void clear(self) noexcept:
        reset(&self.queue)
        self.bytes = 0
