"""The places of the demo: a real database, real edges, and a reader at each.

Invariants:
* a way that is cut carries nothing, in either direction, whatever was under way;
* readers judge what they see as users would: by the version, the age and the error they get.
"""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from time import monotonic, sleep
from typing import Any, NamedTuple

import kvengine
from kvengine import Database, Edge, UpstreamUnavailable, ValueRead
from kvengine.edge.messages import KeyRequest

KEY = "dark-mode"
REGIONS = {"europe": ("ams", "lon", "fra"), "asia": ("sin", "nrt"), "america": ("iad", "gru")}
CUT = "gru"
BOUND = 0.3  # share of the time
FLIPS = 16
STEP_S = 0.05
COME_S = 10.0  # how long the demo waits for what should come at once
READ_EVERY_S = 0.001
Done = Callable[[Any], None]


class Way:
    """The way to an upstream, which can be cut."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.is_cut = False

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Ask for keys."""
        self._carry(lambda reply: self._source.fetch(requests, reply), done)

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Ask for changes."""
        self._carry(lambda reply: self._source.poll(after, poll_timeout_s, reply), done)

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


class Flip(NamedTuple):
    """A change of the flag."""

    version: int
    place: str
    value: str
    at: float


class Demo:
    """The demo while it runs.

    Args:
        seconds: how long it is to take.
        cleanup: closes what it opens.
    """

    def __init__(self, seconds: float, cleanup: ExitStack) -> None:
        self.seconds, self.bound_s = seconds, BOUND * seconds
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="kvengine-demo-"))
        self.db = cleanup.enter_context(kvengine.open(folder))
        self.db.namespace("flags").put(KEY, "off")
        settings: dict[str, Any] = {
            "bound_s": self.bound_s,
            "cache_ttl_s": self.bound_s,
            "poll_timeout_s": min(1.0, self.bound_s / 4),
            "retry_max_s": 0.2,
            "memory_bytes": 1 << 20,
        }
        self.places: dict[str, Place] = {}
        self.via: dict[str, str] = {}
        for region, names in REGIONS.items():
            edge = kvengine.Edge(self.db, region, **settings)
            cleanup.callback(edge.close)
            for name in names:
                self.via[name] = region
                self.places[name] = place = Place(edge, name, **settings)
                cleanup.callback(place.close)
        self.flips: list[Flip] = []
        self.cut_at = self.healed_at = 0.0
        self.version_at_heal = 0
        self._chance = random.Random(1)
        self.started = monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return monotonic() - self.started

    def flip(self) -> Flip:
        """Write the other value at an edge that is not cut off."""
        place = self._chance.choice([one for one in self.places.values() if not one.is_cut])
        value = "on" if not self.flips or self.flips[-1].value == "off" else "off"
        at = monotonic()
        found = Flip(place.flags.put(KEY, value), place.name, value, at)
        self.flips.append(found)
        return found

    def cut(self) -> None:
        """Let nothing reach one edge."""
        self.places[CUT].edge.way.is_cut = True
        self.cut_at = monotonic()

    def heal(self) -> None:
        """Let changes reach it again."""
        self.version_at_heal = self.flips[-1].version
        self.healed_at = monotonic()
        self.places[CUT].edge.way.is_cut = False

    def delays(self, flip: Flip) -> dict[str, float]:
        """Return how long after a change began each edge saw it."""
        return {
            name: max(place.seen[flip.version] - flip.at, 0.0)
            for name, place in self.places.items()
            if flip.version in place.seen
        }

    def has_come(self) -> bool:
        """Return whether every connected edge has seen the newest change."""
        version = self.flips[-1].version if self.flips else 0
        return all(
            place.is_cut or any(seen >= version for seen in list(place.seen))
            for place in self.places.values()
        )

    def behind(self) -> float:
        """Return how long after a change of the flag the older value was shown, at the most."""
        return max(
            place.last[old.version] - new.at
            for place in self.places.values()
            for old, new in pairwise(self.flips)
            if old.version in place.last
        )

    def wait_until(self, share: float, draw: Callable[[Demo], None]) -> None:
        """Let a share of the time pass, and show what happens."""
        while (left := share * self.seconds - self.elapsed) > 0:
            draw(self)
            sleep(min(STEP_S, left))
        end = monotonic() + COME_S
        while not self.has_come() and monotonic() < end:  # on a machine that is very busy
            draw(self)
            sleep(STEP_S)
