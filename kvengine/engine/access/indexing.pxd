"""How the index learns of changes, as C sees it."""

from libc.stdint cimport uint64_t

from kvengine.engine.access.change cimport Change, Write
from kvengine.engine.access.log_end cimport LogEnd

cdef int look_up(LogEnd self, Write *write) noexcept
cdef bint show(LogEnd self, const Change *change) noexcept
cdef int take_in(LogEnd self, uint64_t upto, Write *write) noexcept
