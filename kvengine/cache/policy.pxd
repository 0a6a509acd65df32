"""What decides which entry of a cache goes."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from kvengine.cache.table cimport NO_SLOT, Slot, Table

ctypedef struct Queue:
    int32_t head, tail          # the youngest, the oldest
    int64_t bytes
    int32_t count

cdef class Policy:
    cdef Table table
    cdef double capacity        # what the sizes of all entries may come to, about
    cdef int64_t bytes          # what they come to

    cdef void hit(self, int32_t slot) noexcept
    cdef int prepare(self) except -1
    cdef void missed(self, uint32_t hash, uint32_t size) noexcept
    cdef void insert(self, int32_t slot) noexcept
    cdef int32_t victim(self) noexcept
    cdef void settle(self) noexcept
    cdef void remove(self, int32_t slot) noexcept
    cdef void resized(self, int32_t slot, uint32_t size) noexcept
    cdef void clear(self) noexcept
    cdef void fit(self, int64_t entries) noexcept

cdef void reset(Queue *queue) noexcept
cdef void push(Slot *slots, Queue *queue, int32_t slot, uint8_t number) noexcept
cdef void unlink(Slot *slots, Queue *queue, int32_t slot) noexcept

cdef class Lru(Policy):
    cdef Queue queue
