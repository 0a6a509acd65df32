"""How a compaction gets its turns, and how much it slows writers.

Invariants:

* A writer pauses for at most five milliseconds.  Time is divided into cycles.  In the first part of
  each, whose length depends on how much too large the log is, writers wait for its end.
* A stretch that needs the GIL does not have to wait five milliseconds until the interpreter takes
  it away from a thread that writes continuously: the writer itself yields it.
* No thread is waited for: without writers, nothing is lost.
"""

from kvengine.engine.log.segment cimport SegmentTable

from kvengine.engine.jobs.compaction import PAUSE_MAX_S, excess

cdef enum:
    CYCLE_US = 8000
    REST_NS = 20_000            # enough for a thread that waits for the GIL to take it

cdef double TURN_S = 1e-6       # of a pause that only gives back the GIL
cdef double LONGEST_S = PAUSE_MAX_S


cdef class Turns:
    """The turns of one job.

    Args:
        store: whose writers make way.
        holds_back: let them wait, too, if dead records come faster than they go.
    """

    def __cinit__(self, store: Writer, *, holds_back: bool) -> None:
        self.store, self.holds_back = store, holds_back

    cdef int measure(self) except -1:
        """See how far writers must be held back now."""
        cdef SegmentTable table = self.store.segments
        if self.holds_back:
            self.share = excess(table.total_bytes(), table.total_live_bytes())
        return 0

    cdef void hold_back(self) noexcept nogil:
        """Let the next writer wait, if it is the time for that; to be called again and again."""
        cdef double left
        if self.share > 0:
            left = (self.share * CYCLE_US - kv_now_us() % CYCLE_US) * 1e-6
            self._set(min(left, LONGEST_S))

    cdef void ask(self) noexcept nogil:
        """This thread wants the GIL next."""
        self.hold_back()
        self._set(TURN_S)

    cdef void _set(self, double pause) noexcept nogil:
        if self.store.pause_s < pause:
            self.store.pause_s = pause

    cdef void begin(self) noexcept:
        """It has the GIL."""
        if self.store.pause_s == TURN_S:
            self.store.pause_s = 0

    cdef void let_others_run(self) noexcept:
        """Give the GIL to those who wait for it, and take it again."""
        with nogil:
            kv_rest(REST_NS)
            self.ask()
        self.begin()
