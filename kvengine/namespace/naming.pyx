"""From a user's key to the key in the store.

Invariants:

* A key that the limits do not allow is refused; the error says why.
* The name of a key costs one copy of its UTF-8 bytes, and no table lookup.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef class Naming:
    """The names of a namespace's keys; the base of what reads them."""

    cdef int name_keys(self, bytes prefix, object limits) except -1:
        """Set what names begin with, five bytes, and which keys are allowed."""
        if PyBytes_GET_SIZE(prefix) != PREFIX_BYTES:
            raise ValueError(f"a prefix has {PREFIX_BYTES} bytes")
        self._prefix, self.limits = prefix, limits
        memcpy(self.start, PyBytes_AS_STRING(prefix), PREFIX_BYTES)
        self.key_bytes = limits.key_bytes
        return 0

    cdef Py_ssize_t name_of(self, object key, char *name) except -1:
        """Write the key as the store knows it; return its size."""
        cdef Py_ssize_t size
        cdef const char *text
        if not isinstance(key, str):
            self.limits._refuse_key(key)
        try:
            text = PyUnicode_AsUTF8AndSize(key, &size)
        except UnicodeEncodeError:
            self.limits._refuse_key(key)
        if not 1 <= size <= self.key_bytes or text[0] == c"." and (
            size == 1 or size == 2 and text[1] == c"."
        ):
            self.limits._refuse_key(key)
        memcpy(name, self.start, PREFIX_BYTES)
        memcpy(name + PREFIX_BYTES, text, size)
        return PREFIX_BYTES + size

    def _name(self, key) -> bytes:
        """Return a key as the store knows it.

        Raises:
            InvalidRequest: it is not a valid key: empty, ".", "..", too long, or not text.
        """
        cdef char[NAME_BYTES_MAX] name
        cdef Py_ssize_t size = self.name_of(key, name)
        return name[:size]
