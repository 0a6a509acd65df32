"""A value inside its segment, for memoryview.

Invariants:

* The view refers to the file, so the mapping stays as long as the view exists; segments never
  change, so the bytes stay the same.
"""

from cpython.buffer cimport PyBuffer_FillInfo


cdef class RecordView:
    """The bytes of one value, read-only.

    Thread-safety: it never changes.
    """

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, <void *>self.start, self.size, 1, flags)

    def __releasebuffer__(self, Py_buffer *view):
        pass


cdef object view_of(MappedFile file, const char *start, Py_ssize_t size):
    """Return a memoryview of bytes in a file, which the caller holds.

    Making an object may start the garbage collector, and so run any code: the store may have let
    go of the file when the view is ready.
    """
    cdef RecordView view = RecordView.__new__(RecordView)
    view.file, view.start, view.size = file, start, size
    return memoryview(view)
