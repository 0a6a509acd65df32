"""Key entries and their order, as C sees them."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

cdef struct KeyEntry:
    uint64_t prefix             # the first eight bytes, big-endian: compares like the key
    const char *key
    uint64_t address            # where the record lay when the key was added
    uint32_t size

cdef extern from *:
    """
    static inline uint64_t kv_big_endian(const char *bytes) {
        uint64_t number;
        memcpy(&number, bytes, 8);
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        number = __builtin_bswap64(number);
    #endif
        return number;
    }
    """
    uint64_t kv_big_endian(const char *bytes) noexcept nogil

cdef inline uint64_t prefix_of(const char *key, uint32_t size) noexcept nogil:
    cdef uint64_t prefix = 0
    cdef uint32_t i
    if size >= 8:
        return kv_big_endian(key)
    for i in range(8):
        prefix = prefix << 8 | (<unsigned char>key[i] if i < size else 0)
    return prefix

cdef inline int compare(const KeyEntry *a, const KeyEntry *b) noexcept nogil:
    """Order of two keys as bytes: negative, zero or positive."""
    cdef int order
    cdef uint64_t a_next, b_next
    if a.prefix != b.prefix:
        return -1 if a.prefix < b.prefix else 1
    if a.size >= 16 and b.size >= 16:  # most keys: no call is needed
        a_next, b_next = kv_big_endian(a.key + 8), kv_big_endian(b.key + 8)
        if a_next != b_next:
            return -1 if a_next < b_next else 1
    order = memcmp(a.key, b.key, min(a.size, b.size))
    if order:
        return order
    return (a.size > b.size) - (a.size < b.size)

cdef void sort_entries(KeyEntry *entries, KeyEntry *spare, uint64_t n) noexcept nogil
