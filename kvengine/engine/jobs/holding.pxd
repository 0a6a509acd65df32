"""Latches as C sees them."""

from cpython.pythread cimport PyThread_type_lock


cdef class Latch:
    cdef PyThread_type_lock lock
    cdef bint is_open

    cdef void release(self) noexcept
