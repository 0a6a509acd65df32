"""A namespace's reads as C sees them."""

from libc.stdint cimport uint64_t

from kvengine.engine.access.calls cimport StoreCalls
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport Header
from kvengine.namespace.naming cimport Naming
from kvengine.namespace.recency cimport Recency

cdef enum Kind:
    TEXT
    BYTES
    JSON
    STREAM

cdef class Meter:
    cdef public uint64_t reads, writes, deletes, lists, bytes_in, bytes_out, evictions

cdef class NamespaceReader(Naming):
    cdef readonly StoreCalls _store
    cdef Reader parts
    cdef readonly Meter _meter
    cdef public Recency _recency    # None, or notes which keys are read: the namespace is bounded
    cdef object refusal             # None, or the error that every call raises from now on
    cdef bint follows               # another process may delete the namespace
    cdef uint64_t seen              # followers: the version at which the catalog was looked at

    cdef int begin(self) except -1
    cdef const Header *find(self, object key, uint64_t *address) except? NULL
    cdef object value_as(self, object key, const Header *header, uint64_t address, Kind kind)
    cdef object described(self, object key, const Header *header, uint64_t address, Kind kind)
    cdef dict read_each(self, list wanted, Kind kind, bint with_metadata)
    cdef object decoded(self, object key, object value, Kind kind)
    cdef list checked_keys(self, object keys, object type)

cdef Kind kind_of(object type) except *
