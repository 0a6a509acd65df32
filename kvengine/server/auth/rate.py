"""How often a key may be written.

Invariants:

* All processes of a server share the limit of a key.
* Memory does not grow with the number of keys written.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from kvengine.server.auth.rates import RateTable


class KeyWrites:
    """Workers KV's "one write a second to a key" (developers.cloudflare.com/kv/platform/limits).

    Args:
        interval_s: minimum seconds between two writes of a key; 0: no limit.
        now: returns the time, in seconds, on a clock that all processes share.
        table: shared by all processes.
        secret: shared by all processes; without it, nobody can predict which keys share a slot.
    """

    def __init__(
        self, interval_s: float, now: Callable[[], float], table: RateTable, secret: bytes
    ) -> None:
        self._interval, self._now, self._table, self._secret = interval_s, now, table, secret

    def take(self, namespace: str, key: str) -> bool:
        """Count a write; False if it comes too early after the previous one."""
        if not self._interval:
            return True
        name = f"{namespace}/{key}".encode("utf-8", "surrogatepass")
        digest = blake2b(name, digest_size=8, key=self._secret).digest()
        return self._table.take_only(digest, self._now(), self._interval)
