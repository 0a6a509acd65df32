"""Appending, for the holder of the write lock."""

from kvengine.engine.access.change cimport Write
from kvengine.engine.access.log_end cimport LogEnd
from kvengine.file.mapped cimport MappedFile

cdef int make_room(LogEnd self, Write *write) except -1
cdef int refused(LogEnd self, Write *write, int code, MappedFile file, const char *what) noexcept
cdef int append(LogEnd self, Write *write) except -1
cdef int publish(LogEnd self, Write *write) noexcept
cdef bint only_deletes(const Write *write) noexcept nogil
