"""A value where it lies, as C sees it."""

from kvengine.file.mapped cimport MappedFile

cdef class RecordView:
    cdef MappedFile file
    cdef const char *start
    cdef Py_ssize_t size
