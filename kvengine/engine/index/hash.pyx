"""XXH3-64 with a seed: the form for long inputs, and the face for Python.

Written from the published specification (doc/xxhash_spec.md of the xxHash project).  Inputs up
to 240 bytes are in hash.pxd, so that other modules inline them.  Unlike the specification's text,
the secret that belongs to a seed is never written to memory: each word is made where it is used.

Invariants:

* Equal to `XXH3_64bits_withSeed` for every length and seed, on every machine: hashes are stored.
* Reads exactly the bytes it was given, at any alignment.
* Every loop gives the same answer; the processor only decides which one is used.

Measured on a Xeon (Sapphire Rapids, gcc 12 -O3), nanoseconds a hash, calls that do not wait for
each other; "library" is the symbol `XXH3_64bits_withSeed` in the wheel of xxhash 4.1, which is
not used: it is level or slower from 96 bytes on, gains less than half a nanosecond below, where our
own form is inlined, and not every wheel has it (its AVX-512 form, where exported, wins from 4 KiB):

    bytes      16   32   64   128   136   240   256   512   1,024   4,096   1 MiB
    own       2.1  4.0  5.3   6.5   7.3    11    17    23      39     131   26 GB/s
    library   1.9  3.5  5.0   8.4   8.3    13    19    25      43     163   26 GB/s

Without AVX2 the same loop runs as the compiler vectorized it: 12 GB/s.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from kvengine.engine.index.hash cimport (
    PRIME32_1,
    PRIME32_2,
    PRIME32_3,
    PRIME64_1,
    PRIME64_2,
    PRIME64_3,
    PRIME64_4,
    PRIME64_5,
    avalanche,
    multiply_fold,
    read64,
    secret,
    xxh3,
)

# Feeds all of the input to the eight sums: whole rounds, what remains, the last 64 bytes again.
ctypedef void (*Consumer)(
    uint64_t *sums, const uint8_t *data, size_t size, uint64_t seed
) noexcept nogil

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    #define KV_HAS_AVX2 (__builtin_cpu_supports("avx2") != 0)
    #define KV_AVX2 __attribute__((target("avx2"), always_inline)) static inline

    KV_AVX2 __m256i kv_load(const void *source) {
        return _mm256_loadu_si256((const __m256i *)source);
    }

    /* sum + neighboring word + lower half of (word ^ key) * upper half */
    KV_AVX2 __m256i kv_add_words(__m256i sum, __m256i words, __m256i key) {
        __m256i mixed = _mm256_xor_si256(words, key);
        mixed = _mm256_mul_epu32(mixed, _mm256_srli_epi64(mixed, 32));
        return _mm256_add_epi64(sum, _mm256_add_epi64(mixed, _mm256_shuffle_epi32(words, 0x4e)));
    }

    KV_AVX2 __m256i kv_scramble(__m256i sum, __m256i key) {
        __m256i prime = _mm256_set1_epi64x(KV_PRIME32_1), low, high;
        sum = _mm256_xor_si256(_mm256_xor_si256(sum, _mm256_srli_epi64(sum, 47)), key);
        low = _mm256_mul_epu32(sum, prime);
        high = _mm256_mul_epu32(_mm256_srli_epi64(sum, 32), prime);
        return _mm256_add_epi64(low, _mm256_slli_epi64(high, 32));
    }

    __attribute__((target("avx2"))) static void kv_consume_avx2(
            uint64_t *sums, const uint8_t *data, size_t size, uint64_t seed) {
        const uint8_t *last = data + size - 64, *key = kv_hash_secret;
        __m256i even = _mm256_set_epi64x(0 - seed, seed, 0 - seed, seed);
        __m256i odd = _mm256_sub_epi64(_mm256_setzero_si256(), even), sign = even, swap;
        __m256i a = kv_load(sums), b = kv_load(sums + 4), key_a, key_b;
        size_t stripes = (size - 1) / 64, n = 0;
        while (stripes--) {
            a = kv_add_words(a, kv_load(data), _mm256_add_epi64(kv_load(key), sign));
            b = kv_add_words(b, kv_load(data + 32), _mm256_add_epi64(kv_load(key + 32), sign));
            data += 64;
            key += 8;
            swap = sign;
            sign = _mm256_sub_epi64(_mm256_setzero_si256(), swap);
            if (++n % 16 == 0) {
                a = kv_scramble(a, _mm256_add_epi64(kv_load(key), sign));
                b = kv_scramble(b, _mm256_add_epi64(kv_load(key + 32), sign));
                key = kv_hash_secret;
            }
        }
        /* Key at byte 121, one byte into word 15. */
        key = kv_hash_secret + 120;
        key_a = _mm256_or_si256(
            _mm256_srli_epi64(_mm256_add_epi64(kv_load(key), odd), 8),
            _mm256_slli_epi64(_mm256_add_epi64(kv_load(key + 8), even), 56));
        key_b = _mm256_or_si256(
            _mm256_srli_epi64(_mm256_add_epi64(kv_load(key + 32), odd), 8),
            _mm256_slli_epi64(_mm256_add_epi64(kv_load(key + 40), even), 56));
        a = kv_add_words(a, kv_load(last), key_a);
        b = kv_add_words(b, kv_load(last + 32), key_b);
        _mm256_storeu_si256((__m256i *)sums, a);
        _mm256_storeu_si256((__m256i *)(sums + 4), b);
    }
    #else
    #define KV_HAS_AVX2 0
    static void (*kv_consume_avx2)(uint64_t *, const uint8_t *, size_t, uint64_t) = 0;
    #endif
    """
    bint HAS_AVX2 "KV_HAS_AVX2"
    Consumer consume_avx2 "kv_consume_avx2"


cdef inline uint64_t key_word(int i, uint64_t seed) noexcept nogil:
    """Return word `i` of the secret that belongs to `seed`."""
    return read64(secret + 8 * i) + (0 - seed if i & 1 else seed)


cdef void consume_portable(
    uint64_t *sums, const uint8_t *data, size_t size, uint64_t seed
) noexcept nogil:
    cdef const uint8_t *last = data + size - 64
    cdef uint64_t[24] key
    cdef uint64_t[8] last_key
    cdef int i
    for i in range(24):
        key[i] = key_word(i, seed)
    for i in range(8):
        last_key[i] = key[15 + i] >> 8 | key[16 + i] << 56  # from byte 121 on
    while size > 1024:  # a last round that is full is not scrambled
        add_stripes(sums, data, 16, key)
        for i in range(8):
            sums[i] = (sums[i] ^ (sums[i] >> 47) ^ key[16 + i]) * PRIME32_1
        data += 1024
        size -= 1024
    add_stripes(sums, data, (size - 1) >> 6, key)
    add_stripes(sums, last, 1, last_key)


cdef inline void add_stripes(
    uint64_t *sums, const uint8_t *data, size_t count, const uint64_t *key
) noexcept nogil:
    cdef uint64_t[8] words
    cdef uint64_t mixed
    cdef size_t n
    cdef int i
    for n in range(count):
        for i in range(8):
            words[i] = read64(data + 64 * n + 8 * i)
        for i in range(8):
            mixed = words[i] ^ key[n + i]
            sums[i] += words[i ^ 1] + <uint64_t><uint32_t>mixed * (mixed >> 32)


# Set once, at import: by name for tests, and the one that is used.
cdef dict addresses = {"portable": <size_t>consume_portable}
cdef Consumer fastest = consume_portable
if HAS_AVX2:
    addresses["avx2"] = <size_t>consume_avx2
    fastest = consume_avx2

LOOPS = tuple(addresses)  # those that this processor can run


cdef uint64_t xxh3_long(const uint8_t *data, size_t size, uint64_t seed) noexcept nogil:
    return hash_long(fastest, data, size, seed)


cdef inline uint64_t hash_long(
    Consumer consume, const uint8_t *data, size_t size, uint64_t seed
) noexcept nogil:
    cdef uint64_t[8] sums = [
        PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1,
    ]
    cdef uint64_t result = size * PRIME64_1
    cdef int i
    consume(sums, data, size, seed)
    for i in range(0, 8, 2):
        result += multiply_fold(sums[i] ^ merge_key(i, seed), sums[i + 1] ^ merge_key(i + 1, seed))
    return avalanche(result)


cdef inline uint64_t merge_key(int i, uint64_t seed) noexcept nogil:
    return key_word(1 + i, seed) >> 24 | key_word(2 + i, seed) << 40  # from byte 11 on


def xxh3_64(data, seed: int = 0, *, loop: str | None = None) -> int:
    """Return the XXH3-64 hash of a buffer.

    Parameters:
        seed: 0 to 2**64 - 1.
        loop: one of LOOPS, which then takes inputs above 240 bytes; for tests.
    """
    cdef uint64_t seed_bits = seed
    cdef Consumer consume = fastest if loop is None else <Consumer><size_t>addresses[loop]
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if loop is not None and view.len > 240:
            return hash_long(consume, <const uint8_t *>view.buf, view.len, seed_bits)
        return xxh3(view.buf, view.len, seed_bits)
    finally:
        PyBuffer_Release(&view)
