"""The words of the control page, and the write lock, as C sees them.

FORMAT.md says what each word means; control.pyx keeps what the page promises.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:                      # words of 8 bytes
    MAGIC_WORD = 0
    BOOT = 1
    PID = 2
    VERSION = 3
    DURABLE = 4
    GENERATION = 5
    BEGUN = 6
    FUTEX = 7
    LOSSES = 8
    LOST_AFTER = 9
    WRITING = 16                # not 0: a writer is between append and publication
    HELD = 17                   # not 0: the write lock is taken; only a hint for waiting threads
    SEGMENT = 18                # the id of the segment that was begun last
    ALLOCATED = 19              # its bytes on disk, as far as they may be stored to
    PREPARED = 20               # and of these, the ones in memory
    MIN_SEGMENT = 21                  # no segment with a lower id may begin any more
    NEXT_ID = 22                # of a file; it only grows
    FAILED = 23                 # the number of the error with which a sync failed; 0: none did
    NAMED = 24                  # names of segments up to this id are on disk
    SPARSE = 25                 # not 0: its disk is not allocated ahead; do not store to a mapping
    TAKEN_OVER = 26             # a segment that was begun because a writer was killed
    TIGHT = 27                  # not 0: the disk is full, only deletes may take more of it
    PID_START = 28              # when the process that set it up began: its id may be given again
    STARVED = 32                 # time stamp of a thread that has waited long for the write lock
    EPOCH = 33                  # which setting-up of the page this is
    LAYOUT = 34                 # of the mutexes: another C library may have another
    JOB_TOKEN = 35              # of the store object that does jobs; 0: none
    JOB_BEAT = 36               # when it was last seen, in milliseconds
    JOB_WANTED = 37             # when another one last waited for it to end
    PID_NAMESPACE = 38          # of the processes that share the page; 0: unknown
    INODE = 39                  # of the file when it was set up: a copy of it has another
    SYNCED = 40                 # 4 bytes: grows with each sync; the futex of waiting threads
    ARRIVED = 41                # 4 bytes: how many came for the next sync,
    EXPECTED = 42               # how many had come for the last one,
    GATHERING = 43              # and not 0 while one waits for as many
    GATHERED = 44               # 4 bytes: how often arrivals were counted
    LED_SINCE = 45              # when the one that syncs for all took the lock; 0: nobody has it
    SHARED = 46                 # 0: one store alone writes, and needs no mutex;
    INSIDE = 47                 # not 0 while one that takes no mutex writes
    WRITE_LOCK = 48                    # a mutex, of at most 64 bytes
    SYNC_LOCK = 56              # another one

cdef enum:                      # the states of `shared`, after 0
    WILL_BE_SHARED = 1          # the process that was alone is about to notice others
    IS_SHARED = 2               # all take the mutex

cdef extern from *:
    """
    #include <errno.h>
    #include <pthread.h>
    #include <stdint.h>
    #include <time.h>

    /* A mutex that processes share, and that falls from the hand of a thread that ends. */
    static inline int kv_make_mutex(void *place) {
        pthread_mutexattr_t attributes;
        int code = pthread_mutexattr_init(&attributes);
        if (code) return code;
        code = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        if (!code) code = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        if (!code) code = pthread_mutex_init((pthread_mutex_t *)place, &attributes);
        pthread_mutexattr_destroy(&attributes);
        return code;
    }
    /* 0: it is this thread's now, whatever became of the one that had it; else EBUSY, or worse. */
    static inline int kv_try_mutex(void *place) {
        int code = pthread_mutex_trylock((pthread_mutex_t *)place);
        if (__builtin_expect(code == EOWNERDEAD, 0)) {
            pthread_mutex_consistent((pthread_mutex_t *)place);
            code = 0;
        }
        return code;
    }
    static inline void kv_give_mutex(void *place) {
        pthread_mutex_unlock((pthread_mutex_t *)place);
    }
    #ifdef __GLIBC__
    #define KV_C_LIBRARY 1
    #else
    #define KV_C_LIBRARY 2
    #endif
    #define KV_MUTEX_LAYOUT \\
        ((uint64_t)KV_C_LIBRARY << 32 | sizeof(pthread_mutex_t) << 8 | sizeof(void *))

    /* Who is alone stores `inside`, then loads `shared`, with nothing in between that keeps the
     * processor from doing it the other way around.  Who stores `shared` makes up for that, by a
     * barrier in every thread that runs, which takes milliseconds. */
    #if defined(__linux__)
    #include <linux/membarrier.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static inline int kv_has_barrier(void) {
        return (syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0) & MEMBARRIER_CMD_GLOBAL) > 0;
    }
    static inline int kv_barrier(void) {
        return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0) == 0;
    }
    #else
    static inline int kv_has_barrier(void) { return 0; }
    static inline int kv_barrier(void) { return 0; }
    #endif
    static inline void kv_step_inside(uint64_t *place) {
        __atomic_store_n(place, 1, __ATOMIC_RELAXED);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    }

    static inline uint64_t kv_load_word(const uint64_t *place) {
        return __atomic_load_n(place, __ATOMIC_ACQUIRE);
    }
    static inline void kv_store_word(uint64_t *place, uint64_t value) {
        __atomic_store_n(place, value, __ATOMIC_RELEASE);
    }
    static inline uint64_t kv_add_word(uint64_t *place, uint64_t value) {
        return __atomic_fetch_add(place, value, __ATOMIC_SEQ_CST);
    }
    /* Let a word be at least a value. */
    static inline void kv_raise_word(uint64_t *place, uint64_t value) {
        uint64_t found = __atomic_load_n(place, __ATOMIC_SEQ_CST);
        while (found < value && !__atomic_compare_exchange_n(
            place, &found, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    }
    /* Put one value in the place of another; 0: it is a third one. */
    static inline int kv_swap_word(uint64_t *place, uint64_t from, uint64_t to) {
        return __atomic_compare_exchange_n(
            place, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    /* Counts of 4 bytes, on which one can sleep. */
    static inline uint32_t kv_load_count(const uint64_t *place) {
        return __atomic_load_n((const uint32_t *)place, __ATOMIC_SEQ_CST);
    }
    static inline uint32_t kv_add_count(uint64_t *place) {
        return __atomic_add_fetch((uint32_t *)place, 1, __ATOMIC_SEQ_CST);
    }
    static inline uint32_t kv_take_count(uint64_t *place) {
        return __atomic_exchange_n((uint32_t *)place, 0, __ATOMIC_SEQ_CST);
    }
    static inline void kv_lower_count(uint64_t *place) {
        uint32_t found = __atomic_load_n((uint32_t *)place, __ATOMIC_SEQ_CST);
        while (found && !__atomic_compare_exchange_n(
            (uint32_t *)place, &found, found - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    }
    #if defined(__linux__)
    #include <limits.h>
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static inline void kv_sleep_on(uint64_t *place, uint32_t value, uint64_t ns) {
        struct timespec limit = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
        syscall(SYS_futex, (uint32_t *)place, FUTEX_WAIT, value, &limit, NULL, 0);
    }
    static inline void kv_wake_all(uint64_t *place) {
        syscall(SYS_futex, (uint32_t *)place, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
    #else
    static inline void kv_sleep_on(uint64_t *place, uint32_t value, uint64_t ns) {
        struct timespec limit = {0, ns < 200000 ? (long)ns : 200000};
        nanosleep(&limit, NULL);
    }
    static inline void kv_wake_all(uint64_t *place) { (void)place; }
    #endif
    static inline uint64_t kv_now_us(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    }
    #if defined(__x86_64__) || defined(__i386__)
    #define kv_relax() __builtin_ia32_pause()
    #else
    #define kv_relax() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #endif

    /* Wait until the write lock looks free, but not longer than some microseconds: who has it may
    be gone
     * without having said so.  Passing it on costs more than a put, so a waiter that found it taken
     * sleeps meanwhile, and lets its holder make some more. */
    static inline void kv_wait_for_write_lock(uint64_t *page, int spins, long sleep_us) {
        struct timespec rest = {0, sleep_us * 1000};
        for (int i = 0; i < spins; i++) {
            if (!__atomic_load_n(&page[17], __ATOMIC_RELAXED)) return;
            kv_relax();
        }
        nanosleep(&rest, NULL);
    }
    """
    int make_mutex "kv_make_mutex"(void *place) noexcept nogil
    int try_mutex "kv_try_mutex"(void *place) noexcept nogil
    void give_mutex "kv_give_mutex"(void *place) noexcept nogil
    uint64_t MUTEX_LAYOUT "KV_MUTEX_LAYOUT"
    bint has_barrier "kv_has_barrier"() noexcept nogil
    bint barrier "kv_barrier"() noexcept nogil
    void step_inside "kv_step_inside"(uint64_t *place) noexcept nogil
    uint64_t load_word "kv_load_word"(const uint64_t *place) noexcept nogil
    void store_word "kv_store_word"(uint64_t *place, uint64_t value) noexcept nogil
    uint64_t add_word "kv_add_word"(uint64_t *place, uint64_t value) noexcept nogil
    uint64_t now_us "kv_now_us"() noexcept nogil
    void raise_word "kv_raise_word"(uint64_t *place, uint64_t value) noexcept nogil
    bint swap_word "kv_swap_word"(uint64_t *place, uint64_t from_, uint64_t to) noexcept nogil
    uint32_t load_count "kv_load_count"(const uint64_t *place) noexcept nogil
    uint32_t add_count "kv_add_count"(uint64_t *place) noexcept nogil
    uint32_t take_count "kv_take_count"(uint64_t *place) noexcept nogil
    void lower_count "kv_lower_count"(uint64_t *place) noexcept nogil
    void sleep_on "kv_sleep_on"(uint64_t *place, uint32_t value, uint64_t ns) noexcept nogil
    void wake_all "kv_wake_all"(uint64_t *place) noexcept nogil
    void wait_for_write_lock "kv_wait_for_write_lock"(
        uint64_t *page, int spins, long sleep_us) noexcept nogil
