"""A cache in front of a store, as compiled code sees it."""

from libc.stdint cimport uint64_t

from kvengine.engine.access.calls cimport StoreCalls
from kvengine.engine.access.reading cimport Reader
from kvengine.cache.cache cimport CacheCore

cdef class Front:
    cdef readonly StoreCalls store
    cdef Reader parts
    cdef CacheCore cache
    cdef object tail                # where in the log the cache is
    cdef object lock                # one thread keeps the cache current
    cdef uint64_t seen              # changes up to this version have left the cache
    cdef uint64_t moves             # odd while a thread takes changes in

    cdef bint keep_up(self) except -1
    cdef object read(self, object key)
