"""Pacer as C sees them."""

from libc.stdint cimport uint64_t

from kvengine.engine.access.writing cimport Writer

cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>
    static inline uint64_t kv_now_us(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    }
    static inline void kv_rest(long nanoseconds) {
        struct timespec wanted = {0, nanoseconds};
        nanosleep(&wanted, 0);
    }
    """
    uint64_t kv_now_us() noexcept nogil
    void kv_rest(long nanoseconds) noexcept nogil

cdef class Pacer:
    cdef Writer store
    cdef bint throttles              # writers, while dead records accumulate
    cdef double share               # of the time in which they wait: 0 to 1

    cdef int measure(self) except -1
    cdef void throttle(self) noexcept nogil
    cdef void _set(self, double pause) noexcept nogil
    cdef void ask(self) noexcept nogil
    cdef void begin(self) noexcept
    cdef void yield_gil(self) noexcept
