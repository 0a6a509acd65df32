"""Keys as arguments, checked without a call in the usual case."""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

cdef enum:
    KEY_MAX = 1024              # keys.pyx compares it with kvengine.options

cdef bytes key_bytes(object key)
cdef int refuse_size(bytes name) except -1

cdef inline bytes checked_key(object key):
    """Return a key as bytes of a size that a store accepts.

    Raises:
        InvalidType: it is not bytes-like.
        InvalidRequest: it is empty or too long.
    """
    cdef bytes name = key if type(key) is bytes else key_bytes(key)
    # An empty key is the largest number here, so one comparison does for both ends.
    if <uint64_t>PyBytes_GET_SIZE(name) - 1 >= KEY_MAX:
        refuse_size(name)
    return name
