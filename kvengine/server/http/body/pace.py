"""How fast something must go on: bytes of a body that comes, or of an answer that is taken.

Invariants:

* Who sends, or takes, a byte now and then is as slow as who does nothing: what counts is the sum of
  a window of time.
* Time in which the server itself holds up the client does not count.
"""

from __future__ import annotations


class Pace:
    """The bytes of one direction of a connection, in windows of time.

    Thread-safety: for one event loop.
    """

    __slots__ = ("_began", "count")

    def __init__(self) -> None:
        self.count = 0  # bytes of this window
        self._began = 0.0  # 0: none has begun

    def rest(self) -> None:
        """Note that nothing is to be moved now."""
        self.count, self._began = 0, 0.0

    def is_too_slow(self, now: float, window_s: float, least: float) -> bool:
        """True if a whole window is over and less went on in it than should have.

        Args:
            now: of a clock that is never set, in seconds.
            window_s: seconds.
            least: bytes a second.
        """
        if self._began == 0.0:
            self.count, self._began = 0, now
        elif now - self._began >= window_s:
            count, seconds = self.count, now - self._began
            self.count, self._began = 0, now
            return count < least * seconds
        return False
