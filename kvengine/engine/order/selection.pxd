"""Selections as C sees them."""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.order.key_sort cimport KeyEntry
from kvengine.engine.order.key_run cimport Place, RunView

cdef struct Source:             # a sorted part of a buffer, or a run
    const KeyEntry *entries     # of the buffer; NULL for a run
    uint64_t start, end         # of the part
    uint64_t index
    RunView *run
    Place place
    uint64_t number             # of the run, in the list that the selection holds
    uint64_t limit              # addresses are trusted for segments with smaller ids
    bint alive                  # there is a current entry
    KeyEntry entry

cdef class Selection:
    cdef list held              # keeps buffers and runs in place
    cdef Source *sources
    cdef Py_ssize_t source_count, source_room
    cdef KeyEntry *entries
    cdef uint64_t *limits
    cdef Py_ssize_t room
    cdef readonly Py_ssize_t count
    cdef uint64_t unverified      # the block that stopped the search,
    cdef Source *stopped        # and the run it is in

    cdef int collect(
        self, list buffers, list runs, bytes prefix, object start_after, bint reverse,
        bint frozen,
    ) except -1
    cdef Source *_next_source(self) noexcept
    cdef int _add_sources(self, list buffers, list runs) except -1
    cdef bint _select(
        self, const KeyEntry *bound, bint after, bint reverse, const char *prefix, uint32_t size,
    ) noexcept nogil
    cdef bint _position(
        self, Source *source, const KeyEntry *key, bint after, bint reverse
    ) noexcept nogil
    cdef bint _advance(self, Source *source, bint reverse) noexcept nogil
    cdef bint _merge(self, const char *prefix, uint32_t size, bint reverse) noexcept nogil

cdef bytes successor(bytes prefix)
