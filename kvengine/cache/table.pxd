"""Slots of a cache, and the index that finds them by hash."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef enum:
    NO_SLOT = -1
    SECONDS_MAX = 0xFFFFFFF0    # 136 years; behind them each look takes another line of memory

ctypedef struct Slot:
    double stamp                # of its queue: what it is worth, or when it came
    uint32_t hash
    uint32_t size               # what it counts against the bound of the cache
    uint32_t ends               # 0: never; else see Table.set_end()
    int32_t next, prev          # in its queue; next also of free slots
    uint8_t ref                 # reads since the last check: up to 3
    uint8_t freq                # how often it was read since `epoch`, halved with each epoch
    uint8_t epoch
    uint8_t queue               # 0: in none


@cython.final
cdef class Table:
    cdef Slot *slots
    cdef int32_t *index
    cdef uint32_t index_size        # entries of the index
    cdef int32_t room           # slots there are
    cdef int32_t used           # slots that were ever taken
    cdef int32_t free           # the first that was given back, or NO_SLOT
    cdef int32_t dead           # the first that has no entry any more but its objects, or NO_SLOT
    cdef double *expirations        # when the entry of a slot ends; NULL: none ever had an end
    cdef int32_t count          # slots that are taken
    cdef int32_t most           # slots there may be at the most

    cdef uint64_t keys_to_count(self) noexcept
    cdef bint reserve(self) noexcept
    cdef bint reserve_expirations(self) noexcept
    cdef int32_t take(self, uint32_t hash) noexcept
    cdef void mark_dead(self, int32_t slot) noexcept
    cdef int32_t next_dead(self) noexcept
    cdef void give_back(self, int32_t slot) noexcept
    cdef int32_t find_hash(self, uint32_t hash) noexcept
    cdef void take_out(self, int32_t slot) noexcept
    cdef bint grow_slots(self) noexcept
    cdef bint grow_index(self) noexcept
    cdef void clear(self) noexcept

    cdef inline bint has_room(self) noexcept:
        """True if take() may be called."""
        return (self.free != NO_SLOT or self.used < self.room) and (
            <uint64_t>(self.count + 1) * 3 <= <uint64_t>self.index_size * 2)

    cdef inline void set_end(self, int32_t slot, double end) noexcept:
        """Let an entry end at a time of the cache, in seconds; INFINITY: never.

        The slot notes the second before, so that most looks need no other line of memory.
        """
        if end == INFINITY:
            self.slots[slot].ends = 0
            return
        self.expirations[slot] = end
        self.slots[slot].ends = 1  # also for what is no number
        if end > 0:
            self.slots[slot].ends += <uint32_t>min(end, <double>SECONDS_MAX)

    cdef inline bint has_ended(self, int32_t slot, double now) noexcept:
        """True if the entry of a slot ended, as of now."""
        cdef uint32_t ends = self.slots[slot].ends
        if ends == 0 or 0 <= now and now + 1 < ends:
            return False
        return not now < self.expirations[slot]

cdef inline uint32_t home_of(uint32_t hash, uint32_t index_size) noexcept nogil:
    """Return the home of a hash in an index of any size, not only powers of two."""
    return <uint32_t>(<uint64_t>hash * index_size >> 32)

cdef inline uint32_t behind(uint32_t place, uint32_t index_size) noexcept nogil:
    """Return the next place; behind the last one is the first."""
    place += 1
    return 0 if place == index_size else place

cdef inline uint32_t mixed(uint64_t hash, uint64_t seed) noexcept nogil:
    """Return 32 bits that depend on all of a hash: those of small ints are themselves."""
    hash = (hash ^ seed) * <uint64_t>0x9E3779B97F4A7C15
    hash = (hash ^ (hash >> 32)) * <uint64_t>0xD6E8FEB86659FD93
    return <uint32_t>(hash >> 32)
