"""Virtual time: what is to happen, in its order; an hour passes when nothing is left in it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

START = 1_700_000_000.0  # the time of day when a world begins


class Waiting(Protocol):
    """What waits for an answer, and not forever."""

    is_open: bool

    def expire(self, delay_s: float) -> None:
        """So much time has passed without an answer."""


class VirtualTime:
    """The time of a world, in seconds since it began.

    Thread-safety: for one thread.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._order = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.steps = 0
        self._deadlines: dict[float, Deadlines] = {}

    def deadline(self, delay_s: float, waiting: Waiting) -> None:
        """Call expire() of something in so many seconds if it is open then."""
        found = self._deadlines.get(delay_s)
        if found is None:
            found = self._deadlines[delay_s] = Deadlines(self, delay_s)
        found.add(waiting)

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


class Deadlines:
    """Calls that all come after the same time, most of which are no longer wanted by then.

    They wait in a row, beside the heap of what is to happen, which stays small: half of the work
    of a large world was there.

    Args:
        time: the time of the world.
        delay_s: after how many seconds they come.
    """

    def __init__(self, time: VirtualTime, delay_s: float) -> None:
        self._time, self._delay_s = time, delay_s
        self._row: deque[tuple[float, Waiting]] = deque()

    def add(self, waiting: Waiting) -> None:
        """Call its expire() in so many seconds if it is open then."""
        self._row.append((self._time.now + self._delay_s, waiting))
        if len(self._row) == 1:
            self._time.later(self._delay_s, self._come)

    def _come(self) -> None:
        row, now = self._row, self._time.now
        expired = []
        while row and (row[0][0] <= now or not row[0][1].is_open):
            expired.append(row.popleft()[1])
        if row:
            self._time.later(row[0][0] - now, self._come)
        for waiting in expired:
            if waiting.is_open:
                waiting.expire(self._delay_s)


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
