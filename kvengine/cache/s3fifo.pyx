"""The S3-FIFO policy: three queues, of which none is ever reordered (Yang et al., SOSP 2023).

Invariants:

* The entry that came last stays, as for every policy here.
* Entries are in the small queue (1) or in the main queue (2); the ghosts are hashes only.
* A ghost is forgotten when as many keys have gone since as the cache has entries.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from kvengine.cache.policy cimport Policy, push, reset, unlink
from kvengine.cache.table cimport NO_SLOT

cdef enum:
    SMALL = 1
    MAIN = 2
    FIRST_GHOSTS = 64

cdef double SMALL_SHARE = 0.1


cdef class S3Fifo(Policy):
    """New entries that are not read again go soon; others stay while they are read.

    Thread-safety: the GIL.
    """

    def __cinit__(self, *args) -> None:
        self.is_lazy = True
        self.mask = FIRST_GHOSTS - 1
        self.ghosts = <Ghost *>calloc(FIRST_GHOSTS, sizeof(Ghost))
        if self.ghosts == NULL:
            raise MemoryError
        self.moment = 1
        reset(&self.small)
        reset(&self.main)

    def __dealloc__(self) -> None:
        free(self.ghosts)

    def memory_usage(self) -> int:
        """Return how many bytes the ghosts take."""
        return (self.mask + 1) * sizeof(Ghost)

    cdef void missed(self, uint32_t hash, uint32_t size) noexcept:
        cdef Ghost *ghost = &self.ghosts[hash & self.mask]
        cdef uint32_t ago = self.moment - ghost.moment
        self.was_ghost = ghost.moment and ghost.hash == hash and ago <= <uint32_t>self.table.count

    cdef void insert(self, int32_t slot) noexcept:
        self.bytes += self.table.slots[slot].size
        if self.was_ghost:
            push(self.table.slots, &self.main, slot, MAIN)
        else:
            push(self.table.slots, &self.small, slot, SMALL)
        self.was_ghost = False
        self.newest = slot

    cdef int32_t victim(self) noexcept:
        cdef int32_t slot
        while True:
            if self.small.count and (
                self.main.count == 0
                or (self.main.count == 1 and self.main.head == self.newest)
                or (self.small.count > 1 and self.small.bytes > SMALL_SHARE * self.bytes)
            ):
                slot = self.small.tail
                unlink(self.table.slots, &self.small, slot)
                if self.table.slots[slot].ref > 1:
                    self.table.slots[slot].ref = 0
                    push(self.table.slots, &self.main, slot, MAIN)
                    continue
                self.haunt(self.table.slots[slot].hash)
            else:
                slot = self.main.tail
                if slot == NO_SLOT:
                    return NO_SLOT
                unlink(self.table.slots, &self.main, slot)
                if self.table.slots[slot].ref or (slot == self.newest and self.main.count):
                    self.table.slots[slot].ref -= self.table.slots[slot].ref > 0
                    push(self.table.slots, &self.main, slot, MAIN)
                    continue
            self.bytes -= self.table.slots[slot].size
            return slot

    cdef void haunt(self, uint32_t hash) noexcept:
        self.moment += 1
        if self.moment == 0:
            self.moment = 1
        self.ghosts[hash & self.mask] = Ghost(hash, self.moment)

    cdef void remove(self, int32_t slot) noexcept:
        if self.table.slots[slot].queue == SMALL:
            unlink(self.table.slots, &self.small, slot)
        else:
            unlink(self.table.slots, &self.main, slot)
        self.bytes -= self.table.slots[slot].size

    cdef void resized(self, int32_t slot, uint32_t size) noexcept:
        cdef int64_t more = <int64_t>size - self.table.slots[slot].size
        if self.table.slots[slot].queue == SMALL:
            self.small.bytes += more
        else:
            self.main.bytes += more
        self.bytes += more
        self.table.slots[slot].size = size
        if self.table.slots[slot].ref < 3:
            self.table.slots[slot].ref += 1

    cdef void clear(self) noexcept:
        reset(&self.small)
        reset(&self.main)
        self.bytes = 0

    cdef void fit(self, int64_t entries) noexcept:
        """Ghosts of a smaller table are forgotten."""
        cdef uint64_t room = self.mask + 1
        while room < <uint64_t>entries:
            room *= 2
        if room == self.mask + 1:
            return
        cdef Ghost *ghosts = <Ghost *>calloc(room, sizeof(Ghost))
        if ghosts != NULL:
            free(self.ghosts)
            self.ghosts, self.mask = ghosts, room - 1
