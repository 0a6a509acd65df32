"""The C declarations of head.pyx."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

cdef class Headers:
    cdef readonly bytes block
    cdef readonly bint is_hot
    cdef readonly bytes authorization, namespace_id
    cdef public object principal    # of the last request
    cdef readonly bytes host
    cdef public object host_is_own
    cdef public bytes allowed       # the namespace that the principal may read

    cdef int take(self, bytes name, bytes value) except -1

cdef Headers headers_behind(bytes data, Py_ssize_t at, Py_ssize_t line, Headers known)
cdef Py_ssize_t line_size(bytes data, Py_ssize_t at)
cdef Py_ssize_t unquoted(const char *raw, Py_ssize_t size, char *into)


cdef inline bint begins(const char *start, Py_ssize_t size, bytes wanted) noexcept:
    """True if bytes begin with others."""
    cdef Py_ssize_t most = PyBytes_GET_SIZE(wanted)
    return size >= most and memcmp(start, PyBytes_AS_STRING(wanted), most) == 0


cdef inline bint is_exactly(const char *start, const char *end, bytes wanted) noexcept:
    """True if bytes are others."""
    return end - start == PyBytes_GET_SIZE(wanted) and begins(start, end - start, wanted)
