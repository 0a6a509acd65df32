"""XXH3-64 with a seed, for keys and checksums; inputs up to 240 bytes are inlined into the caller.

Written from the published specification (doc/xxhash_spec.md of the xxHash project).  `hash.pyx`
has the loop for longer inputs and the face for Python.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #ifndef KVENGINE_HASH_H
    #define KVENGINE_HASH_H
    #include <stdint.h>
    #include <string.h>

    /* The default secret of the specification: 192 bytes. */
    static const uint8_t kv_hash_secret[192] = {
        0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c,
        0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb,
        0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
        0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
        0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
        0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
        0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97,
        0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
        0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7,
        0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
        0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83,
        0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
        0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26,
        0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc,
        0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
        0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
    };

    #define KV_PRIME32_1 UINT64_C(0x9E3779B1)
    #define KV_PRIME32_2 UINT64_C(0x85EBCA77)
    #define KV_PRIME32_3 UINT64_C(0xC2B2AE3D)
    #define KV_PRIME64_1 UINT64_C(0x9E3779B185EBCA87)
    #define KV_PRIME64_2 UINT64_C(0xC2B2AE3D27D4EB4F)
    #define KV_PRIME64_3 UINT64_C(0x165667B19E3779F9)
    #define KV_PRIME64_4 UINT64_C(0x85EBCA77C2B2AE63)
    #define KV_PRIME64_5 UINT64_C(0x27D4EB2F165667C5)
    #define KV_PRIME_MX1 UINT64_C(0x165667919E3779F9)
    #define KV_PRIME_MX2 UINT64_C(0x9FB21C651E98DF25)

    /* XXH3 reads little-endian on every machine. */
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define KV_FROM_LITTLE32(x) __builtin_bswap32(x)
    #define KV_FROM_LITTLE64(x) __builtin_bswap64(x)
    #else
    #define KV_FROM_LITTLE32(x) (x)
    #define KV_FROM_LITTLE64(x) (x)
    #endif

    /* The two halves of the 128-bit product, xored. */
    static inline uint64_t kv_multiply_fold(uint64_t a, uint64_t b) {
    #ifdef __SIZEOF_INT128__
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    #else
        uint64_t a_low = (uint32_t)a, a_high = a >> 32, b_low = (uint32_t)b, b_high = b >> 32;
        uint64_t low = a_low * b_low, middle = a_high * b_low + (low >> 32);
        uint64_t cross = a_low * b_high + (uint32_t)middle;
        return ((cross << 32) | (uint32_t)low) ^ (a_high * b_high + (middle >> 32) + (cross >> 32));
    #endif
    }
    #endif
    """
    const uint8_t *secret "kv_hash_secret"
    const uint64_t PRIME32_1 "KV_PRIME32_1"
    const uint64_t PRIME32_2 "KV_PRIME32_2"
    const uint64_t PRIME32_3 "KV_PRIME32_3"
    const uint64_t PRIME64_1 "KV_PRIME64_1"
    const uint64_t PRIME64_2 "KV_PRIME64_2"
    const uint64_t PRIME64_3 "KV_PRIME64_3"
    const uint64_t PRIME64_4 "KV_PRIME64_4"
    const uint64_t PRIME64_5 "KV_PRIME64_5"
    const uint64_t PRIME_MX1 "KV_PRIME_MX1"
    const uint64_t PRIME_MX2 "KV_PRIME_MX2"
    uint32_t from_little32 "KV_FROM_LITTLE32"(uint32_t x) noexcept nogil
    uint64_t from_little64 "KV_FROM_LITTLE64"(uint64_t x) noexcept nogil
    uint32_t swap32 "__builtin_bswap32"(uint32_t x) noexcept nogil
    uint64_t swap64 "__builtin_bswap64"(uint64_t x) noexcept nogil
    uint64_t multiply_fold "kv_multiply_fold"(uint64_t a, uint64_t b) noexcept nogil


# In hash.pyx: XXH3_64bits_withSeed for more than 240 bytes.
cdef uint64_t xxh3_long(const uint8_t *data, size_t size, uint64_t seed) noexcept nogil


cdef inline uint32_t read32(const uint8_t *source) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, source, sizeof(word))
    return from_little32(word)


cdef inline uint64_t read64(const uint8_t *source) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, source, sizeof(word))
    return from_little64(word)


cdef inline uint64_t avalanche(uint64_t x) noexcept nogil:
    x = (x ^ (x >> 37)) * PRIME_MX1
    return x ^ (x >> 32)


cdef inline uint64_t avalanche_xxh64(uint64_t x) noexcept nogil:
    x = (x ^ (x >> 33)) * PRIME64_2
    x = (x ^ (x >> 29)) * PRIME64_3
    return x ^ (x >> 32)


cdef inline uint64_t xxh3_0to3(const uint8_t *data, size_t size, uint64_t seed) noexcept nogil:
    cdef uint32_t combined
    if size == 0:
        return avalanche_xxh64(seed ^ read64(secret + 56) ^ read64(secret + 64))
    combined = data[size - 1] | <uint32_t>size << 8
    combined |= <uint32_t>data[0] << 16 | <uint32_t>data[size >> 1] << 24
    return avalanche_xxh64((<uint64_t>(read32(secret) ^ read32(secret + 4)) + seed) ^ combined)


cdef inline uint64_t xxh3_4to8(const uint8_t *data, size_t size, uint64_t seed) noexcept nogil:
    cdef uint64_t x = <uint64_t>read32(data) << 32 | read32(data + size - 4)
    seed ^= <uint64_t>swap32(<uint32_t>seed) << 32
    x ^= (read64(secret + 8) ^ read64(secret + 16)) - seed
    x ^= (x << 49 | x >> 15) ^ (x << 24 | x >> 40)
    x *= PRIME_MX2
    x ^= (x >> 35) + size
    x *= PRIME_MX2
    return x ^ (x >> 28)


cdef inline uint64_t xxh3_9to16(const uint8_t *data, size_t size, uint64_t seed) noexcept nogil:
    cdef uint64_t low = ((read64(secret + 24) ^ read64(secret + 32)) + seed) ^ read64(data)
    cdef uint64_t high = (
        ((read64(secret + 40) ^ read64(secret + 48)) - seed) ^ read64(data + size - 8)
    )
    return avalanche(size + swap64(low) + high + multiply_fold(low, high))


cdef inline uint64_t mix_step(
    const uint8_t *data, size_t secret_offset, uint64_t seed
) noexcept nogil:
    return multiply_fold(
        read64(data) ^ (read64(secret + secret_offset) + seed),
        read64(data + 8) ^ (read64(secret + secret_offset + 8) - seed),
    )


cdef inline uint64_t xxh3_17to128(const uint8_t *data, size_t size, uint64_t seed) noexcept nogil:
    # Chunks of 16 bytes, taken in pairs from both ends towards the middle.
    cdef uint64_t x = size * PRIME64_1
    cdef const uint8_t *end = data + size
    if size > 32:
        if size > 64:
            if size > 96:
                x += mix_step(data + 48, 96, seed) + mix_step(end - 64, 112, seed)
            x += mix_step(data + 32, 64, seed) + mix_step(end - 48, 80, seed)
        x += mix_step(data + 16, 32, seed) + mix_step(end - 32, 48, seed)
    x += mix_step(data, 0, seed) + mix_step(end - 16, 16, seed)
    return avalanche(x)


cdef inline uint64_t xxh3_129to240(const uint8_t *data, size_t size, uint64_t seed) noexcept nogil:
    cdef uint64_t x = size * PRIME64_1
    # The last chunk stands apart from the rest, so the processor can start on it at once.
    cdef uint64_t last = mix_step(data + size - 16, 119, seed)
    cdef size_t i
    x += mix_step(data, 0, seed) + mix_step(data + 16, 16, seed)
    x += mix_step(data + 32, 32, seed) + mix_step(data + 48, 48, seed)
    x += mix_step(data + 64, 64, seed) + mix_step(data + 80, 80, seed)
    x += mix_step(data + 96, 96, seed) + mix_step(data + 112, 112, seed)
    x = avalanche(x)
    for i in range(8, size >> 4):
        last += mix_step(data + i * 16, (i - 8) * 16 + 3, seed)
    return avalanche(x + last)


cdef inline uint64_t xxh3(const void *data, size_t size, uint64_t seed) noexcept nogil:
    """Return XXH3_64bits_withSeed of `size` bytes at `data`."""
    cdef const uint8_t *start = <const uint8_t *>data
    if size <= 16:
        if size > 8:
            return xxh3_9to16(start, size, seed)
        if size >= 4:
            return xxh3_4to8(start, size, seed)
        return xxh3_0to3(start, size, seed)
    if size <= 128:
        return xxh3_17to128(start, size, seed)
    if size <= 240:
        return xxh3_129to240(start, size, seed)
    return xxh3_long(start, size, seed)
