"""Slots of a cache, and the index that finds them by hash.

Invariants:

* A slot in use is in the index once, at or after the place of its hash, with no empty place in
  between.
* Slots keep their number while they are in use.
* Only `reserve` allocates memory, and returns whether it could; if not, nothing has changed.
  Nothing else fails, and nothing here creates or drops a Python object.
* A dead slot is in no index and no queue; its objects wait to be dropped.
"""

cimport cython
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

cdef enum:
    FIRST_SLOTS = 8
    FIRST_INDEX = 16
    SLOTS_MAX = 1 << 30
    FEW = 1 << 13
    MOST_KNOWN = 1 << 29        # hints above this count as unknown


cdef inline uint32_t distance(uint32_t origin, uint32_t target, uint32_t index_size) noexcept nogil:
    """Return how many steps it is from one place to another."""
    return target - origin if target >= origin else target + (index_size - origin)


@cython.final
cdef class Table:
    """Slots and their index.

    Args:
        most: how many slots there may be at the most; 0: as many as can be numbered.

    Thread-safety: the GIL.
    """

    def __cinit__(self, most: int = 0) -> None:
        self.most = min(<uint64_t>most or SLOTS_MAX, <uint64_t>SLOTS_MAX)
        self.free = self.dead = NO_SLOT
        self.slots = <Slot *>malloc(FIRST_SLOTS * sizeof(Slot))
        self.index = <int32_t *>malloc(FIRST_INDEX * sizeof(int32_t))
        if self.slots == NULL or self.index == NULL:
            raise MemoryError
        self.room, self.index_size = FIRST_SLOTS, FIRST_INDEX
        memset(self.index, 0xFF, FIRST_INDEX * sizeof(int32_t))

    def __dealloc__(self) -> None:
        free(self.slots)
        free(self.index)
        free(self.expirations)

    def __len__(self) -> int:
        return self.count

    def memory_usage(self) -> int:
        """Return how many bytes slots and index take."""
        cdef uint64_t ending = 0 if self.expirations == NULL else sizeof(double)
        return self.room * (sizeof(Slot) + ending) + <uint64_t>self.index_size * sizeof(int32_t)

    cdef uint64_t keys_to_count(self) noexcept:
        """Return of how many keys it pays to know how often they are asked for; 0: unknown.

        Of as many as there may be slots; of twice as many where memory is no matter.
        """
        if <uint64_t>self.most >= MOST_KNOWN:
            return 0
        return self.most * 2 if self.most < FEW else self.most

    cdef bint reserve(self) noexcept:
        """Make room for another slot; return False if memory has run out."""
        if <uint64_t>(self.count + 1) * 3 > <uint64_t>self.index_size * 2 and not self.grow_index():
            return False
        return self.free != NO_SLOT or self.used < self.room or self.grow_slots()

    cdef int32_t take(self, uint32_t hash) noexcept:
        """Return a slot of this hash, which is in the index and in no queue; there must be room."""
        cdef int32_t slot
        cdef uint32_t place
        if self.free != NO_SLOT:
            slot = self.free
            self.free = self.slots[slot].next
        else:
            slot = self.used
            self.used += 1
        memset(&self.slots[slot], 0, sizeof(Slot))
        self.slots[slot].hash = hash
        place = home_of(hash, self.index_size)
        while self.index[place] != NO_SLOT:
            place = behind(place, self.index_size)
        self.index[place] = slot
        self.count += 1
        return slot

    cdef void mark_dead(self, int32_t slot) noexcept:
        """Remove a slot from the index; it keeps its objects until next_dead() returns it."""
        self.take_out(slot)
        self.slots[slot].next = self.dead
        self.dead = slot

    cdef int32_t next_dead(self) noexcept:
        """Return a dead slot, which is free from now on, or NO_SLOT."""
        cdef int32_t slot = self.dead
        if slot != NO_SLOT:
            self.dead = self.slots[slot].next
            self.slots[slot].next = self.free
            self.free = slot
        return slot

    cdef void give_back(self, int32_t slot) noexcept:
        """Remove a slot from the index, and free it."""
        self.take_out(slot)
        self.slots[slot].next = self.free
        self.free = slot

    cdef void take_out(self, int32_t slot) noexcept:
        """Remove a slot from the index; those behind it move up."""
        cdef uint32_t index_size = self.index_size
        cdef uint32_t hole = home_of(self.slots[slot].hash, index_size), place, home
        while self.index[hole] != slot:
            hole = behind(hole, index_size)
        place = hole
        while True:
            place = behind(place, index_size)
            if self.index[place] == NO_SLOT:
                break
            home = home_of(self.slots[self.index[place]].hash, index_size)
            if distance(home, place, index_size) >= distance(hole, place, index_size):
                self.index[hole] = self.index[place]
                hole = place
        self.index[hole] = NO_SLOT
        self.slots[slot].queue = 0
        self.count -= 1

    cdef int32_t find_hash(self, uint32_t hash) noexcept:
        """Return a slot of this hash, or NO_SLOT."""
        cdef uint32_t place = home_of(hash, self.index_size)
        cdef int32_t slot
        while True:
            slot = self.index[place]
            if slot == NO_SLOT or self.slots[slot].hash == hash:
                return slot
            place = behind(place, self.index_size)

    # -- memory

    cdef bint grow_slots(self) noexcept:
        cdef int32_t room = min(self.room + self.room // 4 + FIRST_SLOTS, self.most + 1)
        cdef Slot *slots
        cdef double *expirations
        if room <= self.room:
            room = self.room + FIRST_SLOTS  # others are dead and not given back yet
        slots = <Slot *>realloc(self.slots, <size_t>room * sizeof(Slot))
        if slots == NULL:
            return False
        self.slots = slots
        if self.expirations != NULL:
            expirations = <double *>realloc(self.expirations, <size_t>room * sizeof(double))
            if expirations == NULL:
                return False
            self.expirations = expirations
        self.room = room
        return True

    cdef bint reserve_expirations(self) noexcept:
        """Make room for ends of entries; return False if memory has run out."""
        if self.expirations == NULL:
            self.expirations = <double *>malloc(<size_t>self.room * sizeof(double))
        return self.expirations != NULL

    cdef bint grow_index(self) noexcept:
        # Not more than is needed when all slots are taken, unless it was too little.
        cdef uint64_t size = min(
            <uint64_t>self.index_size + self.index_size // 2, <uint64_t>self.most * 3 // 2 + 2)
        cdef int32_t *index
        cdef int32_t slot
        cdef uint32_t old, place, index_size
        if size <= self.index_size:
            size = self.index_size + FIRST_INDEX
        index = <int32_t *>malloc(size * sizeof(int32_t))
        if index == NULL:
            return False
        index_size = <uint32_t>size
        memset(index, 0xFF, size * sizeof(int32_t))
        for old in range(self.index_size):
            slot = self.index[old]
            if slot != NO_SLOT:
                place = home_of(self.slots[slot].hash, index_size)
                while index[place] != NO_SLOT:
                    place = behind(place, index_size)
                index[place] = slot
        free(self.index)
        self.index, self.index_size = index, index_size
        return True

    cdef void clear(self) noexcept:
        """Give all slots back; the memory stays."""
        memset(self.index, 0xFF, <size_t>self.index_size * sizeof(int32_t))
        self.used = self.count = 0
        self.free = self.dead = NO_SLOT
