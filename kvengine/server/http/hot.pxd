"""The C declarations of hot.pyx."""

from libc.stdint cimport uint64_t

from kvengine.server.http.head cimport Headers

cdef class HotEndpoint:
    cdef bytes rest_start, workerd_start
    cdef object access, now
    cdef public object is_own_host
    cdef readonly dict readers
    cdef bytes rest_not_found
    cdef object memory              # of the counts
    cdef uint64_t *counts           # of this process; other processes read them

    cdef bytes read(self, bytes data, Py_ssize_t at, Py_ssize_t line, Headers headers)
    cdef bytes value_of(
        self, const char *raw, Py_ssize_t raw_size, bytes namespace_id, int surface,
        Headers headers)
    cdef bint is_guarded(self, Headers headers) except -1
    cdef bint may_read(self, Headers headers, bytes namespace_id) except -1

cdef class HotConnection:
    cdef HotEndpoint endpoint
    cdef int descriptor
    cdef Headers headers            # of the last request
    cdef readonly Py_ssize_t size   # bytes of requests that the last answer() consumed

    cdef bytes written(self, bytes answer)
