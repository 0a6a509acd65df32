"""How a compaction gets the GIL, and how much it slows writers.

Invariants:

* A writer pauses for at most five milliseconds.  Time is divided into cycles.  In the first part of
  each, whose length depends on how much too large the log is, writers wait for its end.
* A step that needs the GIL does not wait five milliseconds for the interpreter to take it from a
  thread that writes continuously: the writer itself yields it.
* It waits for no thread: without writers, it costs nothing.
"""

from kvengine.engine.log.segment cimport SegmentTable

from kvengine.engine.jobs.compaction import PAUSE_MAX_S, excess

cdef enum:
    CYCLE_US = 8000
    REST_NS = 20_000            # enough for a thread that waits for the GIL to take it

cdef double YIELD_S = 1e-6       # a pause that only yields the GIL
cdef double LONGEST_S = PAUSE_MAX_S


cdef class Pacer:
    """Paces one job against the writers of this process.

    Args:
        store: the store whose writers yield.
        throttles: also make writers wait while dead records accumulate faster than they go.
    """

    def __cinit__(self, store: Writer, *, throttles: bool) -> None:
        self.store, self.throttles = store, throttles

    cdef int measure(self) except -1:
        """Compute how much writers must be throttled now."""
        cdef SegmentTable table = self.store.segments
        if self.throttles:
            self.share = excess(table.total_bytes(), table.total_live_bytes())
        return 0

    cdef void throttle(self) noexcept nogil:
        """Make the next writer wait if this part of the cycle says so; call it repeatedly."""
        cdef double left
        if self.share > 0:
            left = (self.share * CYCLE_US - kv_now_us() % CYCLE_US) * 1e-6
            self._set(min(left, LONGEST_S))

    cdef void ask(self) noexcept nogil:
        """Request the GIL for this thread."""
        self.throttle()
        self._set(YIELD_S)

    cdef void _set(self, double pause) noexcept nogil:
        if self.store.pause_s < pause:
            self.store.pause_s = pause

    cdef void begin(self) noexcept:
        """Withdraw the request: this thread has the GIL."""
        if self.store.pause_s == YIELD_S:
            self.store.pause_s = 0

    cdef void yield_gil(self) noexcept:
        """Release the GIL for waiting threads, then reacquire it."""
        with nogil:
            kv_rest(REST_NS)
            self.ask()
        self.begin()
