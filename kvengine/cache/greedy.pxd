"""The greedy-dual policy: entries go by how much they are worth for their size."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from kvengine.cache.policy cimport Policy, Queue
from kvengine.cache.sketch cimport Sketch
from kvengine.cache.table cimport Slot

cdef enum:
    CLASSES = 96
    FREQUENCY_MAX = 63

ctypedef enum Admission:
    ALL = 0                     # whatever leaves the window comes into the main part
    MORE_OFTEN = 1              # if it was asked for more often, for its size, than the other
    AGAIN = 2                   # if it was asked for more than once

ctypedef struct Candidate:
    double window               # the share of the window
    Admission admission
    bint by_frequency           # the order in the main part; else the oldest unread goes first

cdef class Greedy(Policy):
    cdef Candidate candidate
    cdef double window_share    # moves slowly to that of the candidate
    cdef double size_weight     # what an entry is worth is divided by its size to this power
    cdef double size_floor
    cdef Sketch sketch
    cdef Queue window
    cdef Queue[CLASSES] main
    cdef double[CLASSES] lowest  # of each class: what its oldest entry is worth
    cdef uint64_t[2] filled     # which classes have entries
    cdef int32_t main_count
    cdef double inflation       # what the last victim was worth
    cdef int32_t pending        # left the window and is not in the main part yet
    cdef uint64_t operations
    cdef uint8_t epoch

    cdef bint is_large(self, int64_t size) noexcept
    cdef int frequency(self, int32_t slot) noexcept
    cdef int class_of(self, int32_t slot) noexcept
    cdef void enqueue(self, int32_t slot) noexcept
    cdef void dequeue(self, int32_t slot) noexcept
    cdef int32_t lowest_priority(self) noexcept
    cdef void note(self, int32_t slot) noexcept
    cdef int32_t gone(self, int32_t slot) noexcept
    cdef bint admits(self, int32_t slot, int32_t other) noexcept
    cdef void grow_old(self) noexcept

cdef inline void mark(Slot *slot, uint8_t epoch) noexcept nogil:
    """Note on a slot that its entry was read."""
    cdef int frequency = 0
    cdef int halvings = <uint8_t>(epoch - slot.epoch)
    if halvings == 0:
        frequency = slot.freq
    elif halvings < 8:
        frequency = slot.freq >> halvings
    slot.epoch = epoch
    slot.freq = <uint8_t>(frequency + 1 if frequency < FREQUENCY_MAX else FREQUENCY_MAX)
    if slot.ref < 3:
        slot.ref += 1
