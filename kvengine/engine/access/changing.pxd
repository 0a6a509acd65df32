"""Changer as C sees it."""

from libc.stdint cimport int64_t, uint64_t

from kvengine.engine.access.change cimport Change
from kvengine.engine.access.writing cimport Writer

cdef class Changer(Writer):
    cdef double checked_expiry(self, object expires_at) except? -1
    cdef object put_one(
        self, object key, object value, object metadata, object expires_at, object if_version,
        object durability,
    )
    cdef object delete_one(self, object key, object if_version, object durability)
    cdef object _one(self, Change *change, int64_t if_version, int level)
    cdef uint64_t write(
        self, Change *changes, Py_ssize_t n, int64_t if_version, double moment, int level,
        bint makes_room,
    ) except? 0
    cdef uint64_t commit(
        self, Change *changes, Py_ssize_t n, int64_t if_version, object durability,
        bint makes_room,
    ) except? 0

cdef int set_bytes(Change *change, bytes value, bytes metadata) except -1
cdef int64_t checked_version(object if_version) except -2
cdef bytes copied(object value, str what, uint64_t limit)
