"""The control page as C sees it."""

from libc.stdint cimport uint64_t

from kvengine.file.mapped cimport MappedFile

cdef class Control:
    cdef MappedFile file
    cdef uint64_t *words
    cdef uint64_t inode             # of the file

    cdef uint64_t word(self, int which) noexcept nogil
    cdef void set_word(self, int which, uint64_t value) noexcept nogil
