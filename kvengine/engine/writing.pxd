"""The writer's state as C sees it."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from kvengine.engine.log_end cimport LogEnd
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

cdef struct Write:              # what is asked for:
    Change *changes
    Py_ssize_t n
    bint numbered               # the changes have their versions
    int64_t if_version          # -1, or what the first key's version must be
    # By which that, and deletes, see what has expired: the clock is Python code, which must not run
    # under the lock.
    double moment
    int level
    bint makes_room             # it may use what is kept back for deletes
    uint64_t size               # and what comes of it: bytes in the log, at most
    uint64_t ticket             # to wait for; 0: there was nothing to do
    uint64_t version            # of the last change
    bint begun                  # a segment was
    bint grown                  # the log takes more disk
    int error                   # what went wrong, with `found` (a version, or a hash)
    uint64_t found
    uint64_t offset
    const char *what
    PyObject *file              # MappedFile, owned

cdef class Writer(LogEnd):
    cdef public object follows      # None, or why only a replica's follower may write
    cdef uint64_t *control          # the page that other processes look at
    cdef uint32_t *bell             # there too; never NULL: it may be `no_bell`
    cdef uint32_t no_bell
    cdef public int waiters         # threads that wait for the next change
    cdef public double pause_s      # how long the next write waits for the background thread

    cdef int perform(self, Write *write) except -1
    cdef int _fail(self, Write *write, int code) except -1
