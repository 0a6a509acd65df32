"""Key runs as C sees them; FORMAT.md draws the layout."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kvengine.engine.order.key_buffer cimport KeyBuffer
from kvengine.engine.order.key_sort cimport KeyEntry
from kvengine.file.mapped cimport MappedFile

cdef enum:
    BLOCK_BYTES = 4096
    BLOCK_HEADER_BYTES = 12     # checksum, number of entries, two bytes of zero
    ENTRY_HEADER_BYTES = 7      # size of the key, address

    WRITE_BYTES = 1 << 20

cdef struct RunView:            # what a scan needs of a run, without Python objects
    const char *base
    uint64_t blocks
    uint8_t *verified             # one a block: 1 once its checksum was compared

cdef struct Place:
    uint64_t block
    uint32_t index

cdef uint32_t count_of(const RunView *run, uint64_t block) noexcept nogil
cdef void read_entry(
    const RunView *run, uint64_t block, uint32_t index, KeyEntry *entry
) noexcept nogil
cdef bint seek_run(
    const RunView *run, const KeyEntry *key, bint after, Place *place, uint64_t *unverified
) noexcept nogil
cdef bint step_run(
    const RunView *run, Place *place, bint back, bint *alive, uint64_t *unverified
) noexcept nogil

cdef class KeyRun:
    cdef MappedFile file
    cdef readonly str name      # in the folder
    cdef readonly uint64_t count, segment_limit, removals_mark
    cdef RunView view

    cdef int verify_block(self, uint64_t block) except -1
    cdef bint _fits(self, uint64_t block) noexcept nogil

cdef class RunWriter:
    cdef char *bytes            # blocks that await their write
    cdef uint64_t filled        # of them, in bytes
    cdef char *block            # the one being filled
    cdef uint32_t entries, used     # of the block: entries so far, bytes from its end
    cdef readonly uint64_t blocks, count
    cdef object output

    cdef void add(self, const KeyEntry *entry) noexcept nogil
    cdef void _close_block(self) noexcept nogil
    cdef int flush(self, bint all) except -1
