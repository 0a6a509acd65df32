"""New keys in memory, as C sees them."""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.order.key_sort cimport KeyEntry

cdef extern from *:
    """
    #include <stdlib.h>
    #include <sys/mman.h>
    /* Memory that goes back to the system at once when it is large: malloc would keep it. */
    #define KV_LARGE (128u << 10)
    static inline void *kv_take(size_t size) {
        if (size < KV_LARGE) return malloc(size);
        void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return start == MAP_FAILED ? NULL : start;
    }
    static inline void kv_give(void *start, size_t size) {
        if (start == NULL) return;
        if (size < KV_LARGE) free(start); else munmap(start, size);
    }
    """
    void *kv_take(size_t size) noexcept nogil
    void kv_give(void *start, size_t size) noexcept nogil

cdef uint64_t seek_entries(
    const KeyEntry *entries, uint64_t start, uint64_t end, const KeyEntry *key, bint after
) noexcept nogil

cdef struct Block:              # memory for keys, which follow
    Block *next
    uint64_t size               # of all of it

cdef class KeyBuffer:
    cdef KeyEntry *entries
    cdef readonly uint64_t count
    cdef uint64_t room
    cdef uint64_t sorted_count
    cdef uint64_t[64] starts    # where each sorted run begins
    cdef readonly int sorted_runs
    cdef Block *blocks          # memory of the keys; never moves
    cdef char *free_bytes       # of the block in use
    cdef uint64_t free_count
    cdef char *spare_bytes      # of the next one, if it was reserved
    cdef uint64_t spare_count
    cdef readonly uint64_t removals_mark

    cdef int add(self, const char *key, uint32_t size, uint64_t address) except -1
    cdef bint reserve(self, uint64_t keys, uint64_t size) noexcept
    cdef void add_reserved(self, const char *key, uint32_t size, uint64_t address) noexcept
    cdef int settle(self) except -1
    cdef bint _more_entries(self, uint64_t wanted) noexcept
    cdef bint _more_bytes(self, uint64_t size) noexcept
    cdef int _merge_last_runs(self) except -1
    cdef uint64_t end_of(self, int run) noexcept nogil

cdef inline bint reserve_keys(KeyBuffer buffer, uint64_t keys, uint64_t size) noexcept:
    """Have room for keys of so many bytes together; False: there is no memory."""
    return buffer.count + keys <= buffer.room and size <= buffer.free_count or buffer.reserve(
        keys, size)
