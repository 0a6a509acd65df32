"""How often: requests of a token, writes of a key.

Invariants:

* A token's bucket holds one second of its rate; what is refused takes nothing out of it.
* Memory does not grow with the number of keys written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Allowance:
    """A bucket that fills with time.

    Args:
        rate: requests a second; None: any number.
    """

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._most = self._left = max(1.0, rate or 0.0)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one request out; False if there is none left."""
        if self._rate is None:
            return True
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """Put a request back that was not answered here."""
        self._left = min(self._most, self._left + 1)

    @property
    def is_unlimited(self) -> bool:
        """True if it never refuses."""
        return self._rate is None

    @property
    def wait_s(self) -> float:
        """Seconds until the next one."""
        return 0.0 if self._rate is None else max(0.0, (1 - self._left) / self._rate)


class KeyWrites:
    """Workers KV's "one write a second to a key" (developers.cloudflare.com/kv/platform/limits).

    Args:
        interval_s: between two writes of a key; 0: none.
        now: tells the time, in seconds.
    """

    def __init__(self, interval_s: float, now: Callable[[], float]) -> None:
        self._interval, self._now = interval_s, now
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()

    def take(self, namespace: str, key: str) -> bool:
        """Note a write; False if it comes too early after the one before."""
        if not self._interval:
            return True
        now = self._now()
        while self._last and next(iter(self._last.values())) <= now - self._interval:
            self._last.popitem(last=False)
        if (namespace, key) in self._last:
            return False
        self._last[namespace, key] = now
        return True
