"""Digests: a checksum over records, which is equal for two stores exactly if their records are.

Invariants:

* The sum does not depend on the order or the location of the records: each adds 128 bits hashed
  from its key, version, expiration, metadata and value.
* Adding or removing a record is one addition, so a sum can be updated with each change.
* Records that expire are summed by the second in which they do, so the sum is available for any
  whole second, whether or not expired records still exist.
"""

from libc.math cimport ceil
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.log.record cimport Header, expiry_of, key_of, version_of

cdef extern from *:
    """
    #define SEED_LOW 0x9E3779B97F4A7C15ULL
    #define SEED_HIGH 0xC2B2AE3D27D4EB4FULL
    """
    uint64_t SEED_LOW, SEED_HIGH

cdef extern from "Python.h":
    int PyGC_Enable()
    int PyGC_Disable()


cdef Term term_of(const Header *header) noexcept nogil:
    """Return what a record adds to a sum: two hashes of all that a reader can see of it."""
    cdef uint64_t[4] fields
    cdef double expires_at = expiry_of(header)
    cdef uint64_t size = (
        <uint64_t>header.key_size + header.metadata_size + header.value_size)
    cdef const char *start = key_of(header)
    cdef Term term
    fields[0] = version_of(header)
    fields[1] = 0
    memcpy(&fields[1], &expires_at, 8)
    fields[2] = <uint64_t>header.key_size << 32 | header.metadata_size
    fields[3] = header.value_size
    cdef uint64_t seed = xxh3(<const char *>fields, sizeof(fields), SEED_LOW)
    term.low = xxh3(start, size, seed)
    term.high = xxh3(start, size, seed + SEED_HIGH)
    return term


cdef class DigestSum:
    """A sum of records.

    Thread-safety: changed and read while holding the GIL.
    """

    def __cinit__(self) -> None:
        self.moments = {}

    cdef void add_record(self, const Header *header, int sign) noexcept:
        """Count a record in (1) or out (-1)."""
        cdef Term term = term_of(header)
        cdef double expires_at = expiry_of(header)
        if expires_at == 0:
            self.keys += sign
            self.low += <uint64_t>sign * term.low
            self.high += <uint64_t>sign * term.high
            return
        # The writer's lock is held: finalizers, which may write, must wait.
        cdef bint collects = PyGC_Disable()
        try:
            self._add_expiring(expires_at, term, sign)
        except MemoryError:
            self.stale = True
        if collects:
            PyGC_Enable()

    cdef int _add_expiring(self, double expires_at, Term term, int sign) except -1:
        cdef uint64_t low = 0, high = 0
        moment = int(ceil(expires_at))
        found = self.moments.get(moment)
        keys = sign
        if found is not None:
            keys += found[0]
            low, high = found[1], found[2]
        low += <uint64_t>sign * term.low
        high += <uint64_t>sign * term.high
        if keys or low or high:
            self.moments[moment] = (keys, low, high)
        else:
            del self.moments[moment]
        return 0

    def invalidate(self) -> None:
        """Say that the sum is not that of the index any more."""
        self.stale = True

    def merge(self, other: DigestSum) -> None:
        """Add another sum to this one."""
        cdef bint collects = PyGC_Disable()  # no other change comes in between
        try:
            self._merge(other)
        finally:
            if collects:
                PyGC_Enable()

    cdef int _merge(self, DigestSum other) except -1:
        cdef uint64_t low, high
        self.keys += other.keys
        self.low += other.low
        self.high += other.high
        for moment, (keys, its_low, its_high) in other.moments.items():
            found = self.moments.get(moment, (0, 0, 0))
            low, high = found[1], found[2]
            low += <uint64_t>its_low
            high += <uint64_t>its_high
            self.moments[moment] = (found[0] + keys, low, high)
        return 0

    def total(self, moment: int) -> tuple[int, int]:
        """Return the number and the sum of the records that live after a second."""
        cdef uint64_t low = self.low, high = self.high
        keys = self.keys
        for second, (its_keys, its_low, its_high) in self.moments.items():
            if second > moment:
                keys += its_keys
                low += <uint64_t>its_low
                high += <uint64_t>its_high
        return keys, (<object>high) << 64 | low
