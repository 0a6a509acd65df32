"""Keys as arguments: bytes or any contiguous buffer, of a valid size.

Invariants:

* A str is refused: the caller must choose its encoding.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from kvengine.errors import InvalidRequest, InvalidType
from kvengine.options import KEY_BYTES_MAX

if KEY_MAX != KEY_BYTES_MAX:
    raise ImportError("keys.pxd and options.py disagree about the longest key")


cdef int refuse_size(bytes name) except -1:
    """Say that a key is empty or too long."""
    raise InvalidRequest(
        f"a key must have 1 to {KEY_BYTES_MAX} bytes, not {PyBytes_GET_SIZE(name)}")


cdef bytes key_bytes(object key):
    """Return a key as bytes that is not bytes already.

    Raises:
        InvalidType: it is not bytes-like; a str must be encoded by the caller.
    """
    cdef Py_buffer view
    if isinstance(key, bytes):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    if isinstance(key, str):
        raise InvalidType("a key must be bytes, not str; encode it first")
    try:
        PyObject_GetBuffer(key, &view, PyBUF_SIMPLE)
    except (TypeError, BufferError, ValueError) as error:
        raise InvalidType(
            f"a key must be bytes or a contiguous buffer, not {type(key).__name__}: {error}"
        ) from None
    try:
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
