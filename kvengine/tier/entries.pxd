"""The entries of a cache."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from kvengine.tier.adaptive cimport Adaptive
from kvengine.tier.greedy cimport Greedy
from kvengine.tier.policy cimport Policy
from kvengine.tier.table cimport Table

cdef class Entries:
    cdef Table table
    cdef Policy policy
    cdef Greedy greedy          # the policy, if it is one
    cdef Adaptive adaptive      # the policy, if it is one
    cdef int sample_shift       # that of the policy
    cdef list objects           # key and value of each slot
    cdef uint64_t seed
    cdef bint is_stable         # the same keys lead to the same decisions in every process
    cdef int64_t capacity       # what the sizes of all entries may come to
    cdef int64_t entries_max
    cdef object timer           # None: the clock of the machine
    cdef double began           # on that clock: where the times of entries begin
    cdef double tick            # by how much it may be behind
    cdef bint ends              # some entry has a time to live
    cdef int32_t hand           # the slot that is looked at next for entries that have ended
    cdef uint64_t changes       # of the index; who lets foreign code run sees by it what to do

    cdef double clock(self) except? -1
    cdef double asked(self) except? -1
    cdef double now(self, double asked) noexcept
    cdef double ending(self, double seconds) except? -1
    cdef int32_t find(self, object key, uint32_t *hash) except -2
    cdef void touch(self, int32_t slot) noexcept
    cdef int reserve(self) except -1
    cdef bint is_ready(self) noexcept
    cdef void place(self, int32_t slot, object key, object value) noexcept
    cdef bint shrink(self, int32_t newest) noexcept
    cdef void forget(self, int32_t slot) noexcept
    cdef int look_for_ended(self, int count, double asked) noexcept
    cdef void bury(self) noexcept
