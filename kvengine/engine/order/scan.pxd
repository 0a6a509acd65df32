"""Scans as C sees them."""

from libc.stdint cimport uint64_t

from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport Header

cdef class Visitor:
    cdef int visit(
        self, Reader reader, const char *key, Py_ssize_t size, const Header *header,
        uint64_t address,
    ) except -1
