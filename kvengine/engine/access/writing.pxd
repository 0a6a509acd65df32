"""The writer's state as C sees it."""

from kvengine.engine.access.change cimport Write
from kvengine.engine.access.log_end cimport LogEnd

cdef class Writer(LogEnd):
    cdef public object follows      # None, or why only a replica's follower may write
    cdef public int waiters         # threads that wait for the next change
    cdef public double pause_s      # how long the next write waits for the background thread

    cdef int perform(self, Write *write) except -1
    cdef int _fail(self, Write *write, int code) except -1
    cpdef bint keep_up(self) except -1
