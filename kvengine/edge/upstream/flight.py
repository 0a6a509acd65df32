"""A request to the upstream, and the readers that wait for its answer.

Invariants:

* A reader stays in the list of its request until it has been answered.
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
    """A request that is under way."""

    __slots__ = ("attempts", "held", "key", "min_version", "sender", "sent", "ttl", "waiters")

    def __init__(
        self, key: bytes, min_version: int, held: CacheEntry | None, ttl: float, now: float
    ) -> None:
        self.key, self.min_version, self.held, self.ttl = key, min_version, held, ttl
        self.sent, self.attempts = now, 0
        self.sender = 0  # the thread that is about to send it
        self.waiters: deque[Waiter] = deque()


def each(waiters: deque[Waiter]) -> Iterator[Waiter]:
    """Yield waiters; remove each from the list once it has its answer, so those left have none."""
    while waiters:
        yield waiters[0]
        waiters.popleft()
