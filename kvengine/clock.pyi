from typing import Protocol

class Clock(Protocol):
    def time(self) -> float: ...

class SystemClock:
    def time(self) -> float: ...

SYSTEM_CLOCK: SystemClock
