"""Waking processes that sleep until a word of a shared page changes.

Invariants:

* Who sleeps writes down, next to the word, the value from which on it wants to be woken, and then
  looks at the word again.  Who changes the word looks there afterwards.  Both are full barriers, so
  one of the two sees the other.
* A sleeper that was killed costs the next change one system call, and no more.
* Where there is no futex nobody sleeps: the caller must look at the word now and then.
"""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #ifndef KV_BELL
    #define KV_BELL
    #if defined(__linux__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #include <errno.h>
    #include <limits.h>
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>
    static inline void kv_wake(uint64_t *word, uint64_t *asleep, uint64_t wanted) {
        __atomic_compare_exchange_n(
            asleep, &wanted, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
    static inline void kv_ring(uint64_t *word, uint64_t value, uint64_t *asleep) {
        uint64_t wanted;
        __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
        wanted = __atomic_load_n(asleep, __ATOMIC_SEQ_CST);
        if (__builtin_expect(wanted != 0 && value >= wanted, 0))
            kv_wake(word, asleep, wanted);
    }
    static inline int kv_sleep(
        uint64_t *word, uint64_t value, uint64_t *asleep, double seconds
    ) {
        struct timespec time;
        time.tv_sec = (time_t)seconds;
        time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
        __atomic_store_n(asleep, value + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value)
            return 0;
        syscall(SYS_futex, word, FUTEX_WAIT, (uint32_t)value, &time, NULL, 0);
        return 0;
    }
    #else
    static inline void kv_ring(uint64_t *word, uint64_t value, uint64_t *asleep) {
        (void)asleep;
        __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    }
    static inline int kv_sleep(
        uint64_t *word, uint64_t value, uint64_t *asleep, double seconds
    ) {
        (void)word; (void)value; (void)asleep; (void)seconds;
        return -1;
    }
    #endif
    #endif
    """
    # Set the word, and wake those who wait for this value or a lower one.
    void kv_ring(uint64_t *word, uint64_t value, uint64_t *asleep) noexcept nogil
    # Sleep while the word is `value`, for some seconds at the most; -1: that can't be done here.
    int kv_sleep(uint64_t *word, uint64_t value, uint64_t *asleep, double seconds) noexcept nogil
