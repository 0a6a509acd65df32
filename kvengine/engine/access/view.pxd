"""A value where it lies, as C sees it."""

from kvengine.file.mapped cimport MappedFile

cdef class RecordView:
    cdef MappedFile file
    cdef const char *start
    cdef Py_ssize_t size

cdef object view_of(MappedFile file, const char *start, Py_ssize_t size)
