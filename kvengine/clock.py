"""The time of day, from one place, so that tests and simulations can say what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Whatever can say what time it is."""

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The clock of this machine."""

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC, as the operating system has it."""
        return time.time()
