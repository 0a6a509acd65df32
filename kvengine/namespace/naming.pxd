"""A namespace's keys as C sees them."""

cdef enum:
    PREFIX_BYTES = 5
    NAME_BYTES_MAX = 1024

cdef class Naming:
    cdef readonly bytes _prefix     # of its keys in the store
    cdef readonly object limits
    cdef char[PREFIX_BYTES] start   # the prefix, at hand
    cdef Py_ssize_t key_bytes       # the longest key

    cdef int name_keys(self, bytes prefix, object limits) except -1
    cdef Py_ssize_t name_of(self, object key, char *name) except -1
