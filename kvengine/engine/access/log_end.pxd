"""The end of the log as C sees it."""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.log.durable cimport CommitGroup
from kvengine.engine.order.key_order cimport KeyOrder
from kvengine.engine.access.write_lock cimport WriteLock
from kvengine.engine.log.segment cimport NextSegment
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
    BEHIND = 11                 # others have gone on, and it takes Python to follow them
    ON_DISK = 12                # a record must be read from the disk first
    UNSYNCED = 13               # a sync failed, here or in another process
    OLD_FORMAT = 14             # the manifest must be replaced first
    SYSTEM = 256                # the operating system refused; plus the number of its error

cdef class LogEnd(WriteLock):
    cdef public uint64_t seen_losses     # the page's, as of what the index holds
    # One more than the page's generation when this followed it last; 0: it is not believed yet.
    cdef uint64_t followed
    cdef uint32_t *futex             # on the page, too
    cdef uint32_t no_futex
    cdef KeyOrder order
    cdef readonly CommitGroup commits
    cdef MappedFile active
    cdef uint64_t active_slot       # 0: there is no segment yet
    cdef public uint64_t known_segment   # the newest that this process has followed the log into
    cdef public NextSegment next_segment    # made, not begun; or None
    cdef public list rows           # SegmentRow of each segment, in the order of their versions
    cdef uint64_t segment_bytes
    cdef readonly uint64_t taken_in  # bytes of the log that came since it was opened
    cdef bint store_to_mapping      # else every record goes through pwrite
    cdef public bint is_old_format  # the manifest says that of 0.1
    cdef int level                  # of durability, when a call does not say
    cdef readonly object refusal    # None, or why writes are not accepted

    cdef int prepare(self, uint64_t start, uint64_t end) noexcept
    cdef int grow(self, uint64_t end, bint deletes) except -1
    cdef int begin_segment(self, NextSegment segment) except -1
    cdef bint waits_for_name(self) noexcept
    cdef void switch_to(self, NextSegment segment) noexcept
