"""The memory cache, for other compiled code."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from kvengine.cache.entries cimport Entries
from kvengine.cache.single_flight cimport Epoch, Flight

cdef enum:
    HELD = 0
    REFUSED = 1
    TOO_LARGE = 2
    LATE = 3                    # what it was made from has changed since
    THERE = 4                   # another value is, and was asked for

cdef class CacheCore(Entries):
    cdef bint charges           # sizes are bytes of memory
    cdef object measure         # gives the size of a value; None: see size_of
    cdef object time_to_live    # of entries that come without one; None: they do not end
    cdef uint64_t hits, misses
    cdef readonly Epoch _epoch  # clear() begins another one

    cdef object lookup(self, object key, object default)
    cdef int64_t size_of(self, object key, object value, object size) except -1
    cdef int hold(
        self, object key, object value, object size, object ttl, Flight flight=*,
        const uint64_t *moves=*, uint64_t expected=*, PyObject **there=*,
    ) except -1
