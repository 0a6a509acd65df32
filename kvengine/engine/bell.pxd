"""The bell as C sees it: the writer rings it without a call of Python."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    BELL_OFFSET = 56            # on the control page, in the cache line of the version

cdef extern from *:
    """
    #include <stdint.h>
    #include <limits.h>
    #include <time.h>
    #if defined(__linux__)
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #define KV_HAS_FUTEX 1
    #define kv_futex(word, operation, value, limit) \\
        syscall(SYS_futex, (word), (operation), (value), (limit), NULL, 0)
    #else
    #define KV_HAS_FUTEX 0
    #define FUTEX_WAIT 0
    #define FUTEX_WAKE 1
    #define kv_futex(word, operation, value, limit) ((void)0)
    #endif

    /* The caller has stored a version and given a lock back.  On x86 that was a full barrier. */
    static inline void kv_ring(uint32_t *word) {
    #if !defined(__x86_64__)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    #endif
        if (__builtin_expect(__atomic_load_n(word, __ATOMIC_RELAXED) != 0, 0)) {
            __atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
            kv_futex(word, FUTEX_WAKE, INT_MAX, NULL);
        }
    }

    static inline void kv_rest(
        uint32_t *word, const uint64_t *version, uint64_t known, double seconds
    ) {
        struct timespec limit;
        limit.tv_sec = (time_t)seconds;
        limit.tv_nsec = (long)((seconds - (double)limit.tv_sec) * 1e9);
        __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(version, __ATOMIC_SEQ_CST) == known)
            kv_futex(word, FUTEX_WAIT, 1, &limit);
    }
    """
    void ring "kv_ring"(uint32_t *word) noexcept nogil
    void rest "kv_rest"(
        uint32_t *word, const uint64_t *version, uint64_t known, double seconds) noexcept nogil
