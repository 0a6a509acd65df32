"""The calls of users as C sees them."""

from kvengine.engine.access.changing cimport Changer

cdef class StoreCalls:
    cdef public Changer _parts
