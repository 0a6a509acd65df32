"""The end of the log as C sees it."""

from libc.stdint cimport uint64_t

from kvengine.engine.durable cimport CommitGroup, pthread_mutex_t
from kvengine.engine.key_order cimport KeyOrder
from kvengine.engine.reading cimport Reader
from kvengine.engine.segment cimport NextSegment
from kvengine.file.mapped cimport MappedFile

cdef enum:                      # what comes of a write, besides what it does
    DONE = 0
    NOTHING = 1                 # there is nothing to delete
    FULL = 2                    # the segment is: make the next one, and try again
    REFUSED = 3                 # the store accepts no writes
    CONFLICT = 4                # the key has another version
    OUT_OF_ORDER = 5            # the version is not above that of the store
    NO_MEMORY = 6
    BAD_RECORD = 7
    BAD_SHARD = 8
    LOST = 9                    # the log has a change that the index does not know
    GONE = 10                   # the folder is, or holds another store
    SYSTEM = 256                # the operating system refused; plus the number of its error

cdef class LogEnd(Reader):
    cdef pthread_mutex_t lock       # one writer at a time; held across disk writes
    cdef uint64_t owner             # the thread that has it; 0: none
    cdef unsigned int forks         # of the process, when the store was opened
    cdef KeyOrder order
    cdef readonly CommitGroup commits
    cdef MappedFile active
    cdef uint64_t active_slot       # 0: there is no segment yet
    cdef public NextSegment next_segment    # made, not begun; or None
    cdef public list rows           # SegmentRow of each segment, in the order of their versions
    cdef public uint64_t next_id    # of a file
    cdef uint64_t segment_bytes
    cdef public bint is_tight       # the disk is full: only deletes may take more of it
    cdef bint store_to_mapping      # else every record goes through pwrite
    cdef int level                  # of durability, when a call does not say
    cdef readonly object refusal    # None, or why writes are not accepted
    cdef uint64_t *begun            # the control page's first version of the active segment
    cdef uint64_t not_begun         # what it points to where there is no page

    cdef int acquire(self) except -1
    cdef int take_lock(self) except -1
    cdef void release(self) noexcept
    cdef int grow(self, uint64_t end, bint deletes) except -1
    cdef int begin_segment(self, NextSegment segment) except -1
