"""Tuples of which the collector of cyclic garbage need not know, for many are made at a time.

Invariants:

* Their fields are atoms: bytes, str, numbers, None.  A tuple that holds nothing else is part of no
  cycle, and when very many are in use, looking for one takes longer than making them.
"""

from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM

cdef extern from "Python.h":
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)
    void PyObject_GC_UnTrack(void *thing)


cdef inline object untracked(object row):
    """Return a tuple of atoms that was just made, and is none of the collector's from now on."""
    PyObject_GC_UnTrack(<void *>row)
    return row


cdef inline object new_row(object kind, Py_ssize_t fields):
    """Return a tuple of a kind, a NamedTuple; each of its fields is then set once, by set_field().

    It is what kind(...) gives, without its Python frame and without another tuple in between.
    """
    cdef object row = PyType_GenericAlloc(<PyTypeObject *>kind, fields)
    return untracked(row)


cdef inline void set_field(object row, Py_ssize_t index, object value) noexcept:
    """Set a field of a new row."""
    Py_INCREF(value)  # the row takes one
    PyTuple_SET_ITEM(row, index, value)
