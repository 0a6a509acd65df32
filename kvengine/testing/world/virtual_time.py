"""Virtual time: what is to happen, in its order; an hour passes when nothing is left in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable

START = 1_700_000_000.0  # the time of day when a world begins


class VirtualTime:
    """The time of a world, in seconds since it began.

    Thread-safety: for one thread.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._order = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.steps = 0

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call a function in so many seconds."""
        self._order += 1
        heapq.heappush(self._due, (self.now + delay_s, self._order, call))

    def step(self) -> bool:
        """Let the next thing happen; False if there is none."""
        if not self._due:
            return False
        self.now, _, call = heapq.heappop(self._due)
        self.steps += 1
        call()
        return True

    def run_until(self, moment: float) -> None:
        """Let everything happen up to a moment."""
        due = self._due
        while due and due[0][0] <= moment:
            self.now, _, call = heapq.heappop(due)
            self.steps += 1
            call()
        self.now = max(self.now, moment)


class WorldClock:
    """The clock of a machine: it began at some time, and runs a little fast or slow.

    Args:
        time: the time of the world.
        ahead_s: how far its time of day is ahead.
        rate: how many of its seconds pass in one of the world.
    """

    def __init__(self, time: VirtualTime, ahead_s: float = 0.0, rate: float = 1.0) -> None:
        self._time, self._ahead_s, self._rate = time, ahead_s, rate

    def time(self) -> float:
        """Return seconds since the epoch, as this machine has it."""
        return START + self._ahead_s + self._time.now * self._rate

    def monotonic(self) -> float:
        """Return seconds since some moment, as this machine has it."""
        return 1000.0 + self._time.now * self._rate

    def moment_of(self, wall: float) -> float:
        """Return the moment of the world at which this machine has a time of day."""
        return (wall - START - self._ahead_s) / self._rate

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call a function in so many seconds of this machine."""
        self._time.later(delay_s / self._rate, call)
