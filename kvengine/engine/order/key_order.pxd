"""Key order as C sees it."""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.order.key_buffer cimport KeyBuffer
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.order.selection cimport Selection

cdef class KeyOrder:
    cdef KeyBuffer active
    cdef list frozen            # KeyBuffer, oldest first
    cdef list runs              # KeyRun, oldest first
    cdef uint64_t capacity
    cdef uint64_t kept          # what drop_dead() left in the buffer

    cdef int add(self, const char *key, uint32_t size, uint64_t address) except -1

cdef bint all_alive(Reader reader, Selection selection) except? False
