"""The writer's state as C sees it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from kvengine.engine.durable cimport CommitGroup, pthread_mutex_t
from kvengine.engine.key_order cimport KeyOrder
from kvengine.engine.reading cimport Reader
from kvengine.engine.record cimport Header
from kvengine.engine.segment cimport Segment
from kvengine.file.mapped cimport MappedFile

cdef struct Change:
    int kind
    double expires_at
    const char *key
    uint64_t key_size
    const char *metadata
    uint64_t metadata_size
    const char *value
    uint64_t value_size
    uint64_t hash
    uint64_t version
    uint64_t offset, size       # of its record in the segment, once it is laid out

cdef class Writer(Reader):
    cdef pthread_mutex_t lock       # one writer at a time; held across disk writes
    cdef KeyOrder order
    cdef readonly CommitGroup commits
    cdef MappedFile active
    cdef uint64_t active_slot       # 0: there is no segment yet
    cdef uint64_t segment_bytes
    cdef bint store_to_mapping      # else every record goes through pwrite
    cdef int level                  # of durability, when a call does not say
    cdef readonly object refusal    # None, or why writes are not accepted
    cdef public object follows      # None, or why only a replica's follower may write
    cdef uint64_t *control          # the page that other processes look at
    cdef uint32_t *bell             # there too; never NULL: it may be `no_bell`
    cdef uint32_t no_bell
    cdef public int waiters         # threads that wait for the next change
    cdef public double pause_s      # how long the next write waits for the background thread

    cdef int acquire(self) except -1
    cdef int acquire_to_write(self) except -1
    cdef void release(self) noexcept
    cdef int make_room(self, uint64_t size, bint durable) except -1
    cdef uint64_t write(
        self, Change *changes, Py_ssize_t n, int64_t if_version, double moment, int level
    ) except? 0
    cdef uint64_t append(self, Change *changes, Py_ssize_t n, uint64_t size, int level) except 0
    cdef uint64_t room_for(self, Change *changes, Py_ssize_t n, int level) except? 0
    cdef int publish(self, Change *change) except -1
    cdef int _look_up(self, Change *changes, Py_ssize_t n) except -1
    cdef bint _precondition(
        self, Change *change, int64_t if_version, double moment
    ) except? False
    cdef int _append(self, Change *changes, Py_ssize_t n, uint64_t size, int level) except -1
    cdef void _count_out(self, uint64_t address) noexcept
