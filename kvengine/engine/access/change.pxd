"""A change of a key, and a write of one or more of them, as they go into the log and the index."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

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
    int64_t if_version          # -1, or what the version of each key must be
    # By which that, and deletes, see what has expired: the clock is Python code, which must not run
    # under the lock.
    double moment
    int level
    bint makes_room             # it may use what is kept back for deletes
    bint waits                  # it may wait for the disk with the write lock held
    uint64_t size               # and what comes of it: bytes in the log, at most
    bint done                   # False: there was nothing to do
    uint64_t version            # of the last change
    bint begun                  # a segment was
    bint grown                  # the log takes more disk
    bint passed_on              # it is visible, and the write lock released; the index is behind
    int error                   # what went wrong, with `found` (a version, or a hash)
    uint64_t found
    uint64_t offset             # of a record, or its address if it must be read from the disk
    const char *what
    PyObject *file              # MappedFile, owned
