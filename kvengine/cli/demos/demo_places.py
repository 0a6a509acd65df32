"""The places of the demo: a real database, real edges, and a reader at each.

Invariants:
* a way that is cut carries nothing, in either direction, whatever was under way;
* readers judge what they see as users would: by the version, the age and the error they get.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from kvengine import Database, Edge, UpstreamUnavailable, ValueRead
from kvengine.edge.messages import Want

KEY = "dark-mode"
READ_EVERY_S = 0.001
Done = Callable[[Any], None]


class Way:
    """The way to an upstream, which can be cut."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.is_cut = False

    def fetch(self, wants: Sequence[Want], done: Done) -> None:
        """Ask for keys."""
        self._carry(lambda reply: self._source.fetch(wants, reply), done)

    def poll(self, after: int, hold_s: float, done: Done) -> None:
        """Ask for news."""
        self._carry(lambda reply: self._source.poll(after, hold_s, reply), done)

    def origin_version(self, done: Done) -> None:
        """Ask for the newest version of the primary."""
        self._carry(self._source.origin_version, done)

    def _carry(self, request: Callable[[Done], None], done: Done) -> None:
        if self.is_cut:
            done(UpstreamUnavailable("cut off"))
        else:
            request(lambda result: done(UpstreamUnavailable("cut off") if self.is_cut else result))


class CuttableEdge(Edge):
    """An edge whose way to its upstream can be cut."""

    way: Way

    def _source(self) -> Any:
        self.way = Way(super()._source())
        return self.way


class Place:
    """An edge, and a thread that reads the flag there all the time.

    Args:
        upstream: the database, or a region.
        name: of the edge.
        settings: of the edge.
    """

    def __init__(self, upstream: Database | Edge, name: str, **settings: Any) -> None:
        self.name = name
        self.edge = CuttableEdge(upstream, name, **settings)
        self.flags = self.edge.namespace("flags")
        self.shown: ValueRead | None = None
        self.error: UpstreamUnavailable | None = None
        self.seen: dict[int, float] = {}  # when each version was first seen
        self.last: dict[int, float] = {}  # when the last read that showed it began
        self.oldest_s = 0.0  # the greatest age that was shown
        self.reads = self.refused = self.went_back = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"reader-{name}", daemon=True)
        self._thread.start()

    @property
    def is_cut(self) -> bool:
        """True while nothing reaches it."""
        return self.edge.way.is_cut

    def _read(self) -> None:
        while not self._stop.wait(READ_EVERY_S):
            self.reads += 1
            began = monotonic()
            try:
                found = self.flags.read(KEY)
            except UpstreamUnavailable as error:
                self.error = error
                self.refused += 1
                continue
            now = monotonic()
            if self.shown is not None and found.version < self.shown.version:
                self.went_back += 1
            self.seen.setdefault(found.version, now)
            self.last[found.version] = began
            self.oldest_s = max(self.oldest_s, found.age)
            self.shown, self.error = found, None

    def close(self) -> None:
        """End the reader and the edge."""
        self._stop.set()
        self._thread.join()
        self.edge.close()
