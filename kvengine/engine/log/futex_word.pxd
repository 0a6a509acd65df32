"""The futex as C sees it: a writer wakes waiters without a call of Python."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    FUTEX_OFFSET = 56            # on the control page, in the cache line of the version

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

    /* Wake all, if somebody may sleep: the bit goes, and what is above it counts up. */
    static inline void kv_wake_waiters(uint32_t *word) {
    #if !defined(__x86_64__)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    #endif
        uint32_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
        while (__builtin_expect(seen & 1, 0)) {
            if (__atomic_compare_exchange_n(
                    word, &seen, seen + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
                kv_futex(word, FUTEX_WAKE, INT_MAX, NULL);
                return;
            }
        }
    }
    """
    # The caller has stored a version, and given a lock back, which was a full barrier on x86.
    void wake_waiters "kv_wake_waiters"(uint32_t *word) noexcept nogil
