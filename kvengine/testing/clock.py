"""A clock that moves only when a test moves it.

Invariants:

* Time never goes back.
* A store with this clock never asks the machine what time it is.
"""

START = 1_700_000_000.0  # 2023-11-14; far from 0, so that a forgotten unit shows


class ManualClock:
    """A kvengine.clock.Clock that a test sets.

    >>> clock = ManualClock()
    >>> clock.advance(1.5) - START
    1.5

    Args:
        start: seconds since the epoch.

    Thread-safety: threads may read it; one thread moves it.
    """

    def __init__(self, start: float = START) -> None:
        self._now = float(start)

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC, as this clock has it."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Go forward and return the new time.

        Raises:
            ValueError: `seconds` is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"a clock does not go back: {seconds}")
        self._now += seconds
        return self._now
