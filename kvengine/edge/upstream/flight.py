"""A request to the upstream, and the readers that wait for its answer.

Invariants:

* A reader stays in the list of its request until it is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from kvengine.edge.lookup import CacheEntry
from kvengine.edge.messages import Done, ReadOptions


class Waiter(NamedTuple):
    """A reader that waits for an answer."""

    options: ReadOptions
    done: Done
    status: str
    since: float


Reader = tuple[bytes, ReadOptions, Done]


class Flight:
    """A request in progress."""

    __slots__ = ("attempts", "cached", "key", "min_version", "sender", "sent", "ttl", "waiters")

    def __init__(
        self, key: bytes, min_version: int, cached: CacheEntry | None, ttl: float, now: float
    ) -> None:
        self.key, self.min_version, self.cached, self.ttl = key, min_version, cached, ttl
        self.sent, self.attempts = now, 0
        self.sender = 0  # the thread that is about to send it
        self.waiters: deque[Waiter] = deque()


def drain(waiters: deque[Waiter]) -> Iterator[Waiter]:
    """Yield waiters, and remove each one once it was answered: those left were not."""
    while waiters:
        yield waiters[0]
        waiters.popleft()
