"""A namespace's reads at an edge as C sees them."""

from libc.stdint cimport uint64_t

from kvengine.namespace.naming cimport Naming
from kvengine.namespace.reading cimport Kind, Meter
from kvengine.edge.lookup cimport CacheEntry, Lookup

cdef class EdgeReader(Naming):
    cdef readonly Meter _meter
    cdef Lookup node
    cdef object origin_store        # None, or the store whose newest version each read must have
    cdef readonly object _options   # of a read without its own
    cdef double ttl
    cdef double look_at             # until then the namespace is known to be there ...
    cdef uint64_t invalidations     # ... if there were no more than these since

    cdef bint known(self) except -1
    cdef CacheEntry find_cached(self, object key)
    cdef object value_as(self, object key, bytes value, Kind kind)
