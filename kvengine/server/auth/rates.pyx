"""Rate limits of tokens and keys, in memory that the processes of a server share.

A slot is 16 bytes: the start of a digest, and the time at which its bucket is full again (GCRA,
the generic cell rate algorithm).  Both change by compare-and-swap.

Invariants:

* The rate of a token limits all processes together, however its connections are spread.
* A table has a fixed size.  A full bucket needs no slot.  If too many buckets are in use at once,
  the one closest to full is evicted, which makes it full.
* A process that dies at any time leaves no lock and no partial write.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #define kv_load(at) __atomic_load_n(at, __ATOMIC_SEQ_CST)
    static inline int kv_swap(uint64_t *at, uint64_t expected, uint64_t wanted) {
        return __atomic_compare_exchange_n(
            at, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    uint64_t kv_load(uint64_t *at) noexcept
    bint kv_swap(uint64_t *at, uint64_t expected, uint64_t wanted) noexcept

cdef enum:
    PROBES = 8  # slots that may hold a bucket

cdef struct Slot:
    uint64_t name       # 0: free
    uint64_t full_at    # nanoseconds


cdef class RateTable:
    """A table in shared memory.

    Args:
        memory: shared by all processes; its size is a power of two, and it starts as zeros.

    Thread-safety: threads and processes may share it.
    """

    cdef Py_buffer view
    cdef uint64_t mask
    cdef bint is_held

    def __cinit__(self, memory) -> None:
        self.is_held = False
        PyObject_GetBuffer(memory, &self.view, PyBUF_WRITABLE)
        self.is_held = True
        if self.view.len < 16 * PROBES or self.view.len & (self.view.len - 1):
            raise ValueError(
                f"a rate table must have at least {16 * PROBES} bytes, a power of two, "
                f"not {self.view.len}")
        self.mask = self.view.len // 16 - 1

    def __dealloc__(self) -> None:
        if self.is_held:
            PyBuffer_Release(&self.view)

    cdef Slot *slot_of(self, uint64_t name, uint64_t now):
        """Return the slot of a bucket; claim one if it has none."""
        cdef Slot *slots = <Slot *>self.view.buf
        cdef Slot *slot
        cdef Slot *oldest
        cdef uint64_t found, full_at, i
        while True:
            oldest = NULL
            for i in range(PROBES):
                slot = &slots[(name + i) & self.mask]
                found = kv_load(&slot.name)
                if found == name:
                    return slot
                if found == 0:
                    oldest = slot
                    break
                if oldest == NULL or kv_load(&slot.full_at) < kv_load(&oldest.full_at):
                    oldest = slot
            found, full_at = kv_load(&oldest.name), kv_load(&oldest.full_at)
            if kv_swap(&oldest.name, found, name):
                if full_at > now:  # of the evicted bucket, unless another process used it since
                    kv_swap(&oldest.full_at, full_at, now)
                return oldest

    cdef bint take_one(self, uint64_t name, uint64_t now, int64_t one, int64_t most):
        """Take one token from a bucket; False if it is empty.  All times are nanoseconds."""
        cdef Slot *slot = self.slot_of(name, now)
        cdef uint64_t found, start
        while True:
            found = kv_load(&slot.full_at)
            start = found if found > now else now
            if <int64_t>(start + one - now) > most:
                return False
            if kv_swap(&slot.full_at, found, start + one):
                return True

    def take_only(self, digest: bytes, now: float, interval_s: float) -> bool:
        """Take the only token of a bucket, which returns after an interval.

        Args:
            digest: eight bytes that identify the bucket.
            now: seconds.
        """
        cdef int64_t one = <int64_t>(interval_s * 1e9)
        return self.take_one(name_of(digest), <uint64_t>(now * 1e9), one, one)


cdef uint64_t name_of(bytes digest) noexcept:
    cdef uint64_t name = 0
    memcpy(&name, <const char *>digest, min(8, len(digest)))
    return name or 1


cdef class Allowance:
    """A token bucket that all processes share; it holds one second of its rate.

    A refused request takes nothing from it.

    Args:
        table: holds the bucket.
        digest: of the token.
        rate: requests per second; None: any number.
    """

    cdef RateTable table
    cdef uint64_t name
    cdef int64_t one, most      # nanoseconds in which one request, or the whole bucket, refills
    cdef uint64_t asked_at
    cdef readonly bint is_unlimited

    def __init__(self, table: RateTable, digest: bytes, rate: float | None) -> None:
        self.table, self.name, self.is_unlimited = table, name_of(digest), rate is None
        rate = 1.0 if rate is None else rate
        # One request in 30 years is the slowest rate.
        self.one = <int64_t>(1e9 / max(rate, 1e-9))
        self.most = <int64_t>(max(1.0, rate) * (1e9 / max(rate, 1e-9)))
        self.asked_at = 0

    def take(self, now: float) -> bool:
        """Take one request at a time in seconds; False if none is left."""
        if self.is_unlimited:
            return True
        self.asked_at = <uint64_t>(now * 1e9)
        return self.table.take_one(self.name, self.asked_at, self.one, self.most)

    def give_back(self) -> None:
        """Put back a request that this process did not answer."""
        if self.is_unlimited:
            return
        cdef Slot *slot = self.table.slot_of(self.name, self.asked_at)
        cdef uint64_t found
        while True:
            found = kv_load(&slot.full_at)
            if found <= self.asked_at or kv_swap(&slot.full_at, found, found - self.one):
                return

    @property
    def wait_s(self) -> float:
        """Seconds from the last take() until the next request is permitted."""
        if self.is_unlimited:
            return 0.0
        cdef Slot *slot = self.table.slot_of(self.name, self.asked_at)
        cdef int64_t left = <int64_t>(kv_load(&slot.full_at) - self.asked_at)
        return max(0, left + self.one - self.most) / 1e9
