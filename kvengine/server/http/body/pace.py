"""Detect clients that send a body, or read an answer, too slowly.

Invariants:

* The rate is measured over a window of time, so a byte now and then does not help a slow client.
* Time in which the client waits for the server does not count.
"""

from __future__ import annotations


class Pace:
    """The bytes of one direction of a connection, in windows of time.

    Thread-safety: for one event loop.
    """

    __slots__ = ("_began", "count")

    def __init__(self) -> None:
        self.count = 0  # bytes in this window
        self._began = 0.0  # of the window; 0: none

    def rest(self) -> None:
        """Stop measuring: no bytes are expected now."""
        self.count, self._began = 0, 0.0

    def is_too_slow(self, now: float, window_s: float, least: float) -> bool:
        """True if a window has ended with a rate below the minimum.

        Args:
            now: seconds on a monotonic clock.
            window_s: length of a window in seconds.
            least: minimum bytes per second.
        """
        if self._began == 0.0:
            self.count, self._began = 0, now
        elif now - self._began >= window_s:
            count, seconds = self.count, now - self._began
            self.count, self._began = 0, now
            return count < least * seconds
        return False
