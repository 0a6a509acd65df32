"""World: a center, regions and locations, run under virtual time and a seed.

>>> world = World(seed=1, locations=3, keys=10)
>>> world.write("center", b"flag", b"on")   # the version of the change
11
>>> world.read("loc-2", b"flag").value
b'on'
>>> world.cut("loc-2")                      # from its upstream
>>> world.write("center", b"flag", b"off")
12
>>> world.read("loc-2", b"flag").value      # it can't know yet
b'on'
>>> world.run(61)
>>> world.read("loc-2", b"flag")
Traceback (most recent call last):
kvengine.errors.UpstreamUnavailable: center does not answer loc-2
>>> world.mend("loc-2")
>>> world.run(10)
>>> world.read("loc-2", b"flag").value
b'off'
>>> world.report().violations
[]

Invariants:

* Everything that happens follows from the seed and from what is called here.
* Every read and every acknowledged write goes to the checker.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from kvengine.errors import KvError, UpstreamUnavailable
from kvengine.testing.world.checker import Checker
from kvengine.testing.world.network import Network, Weather
from kvengine.testing.world.places import CenterPlace, LocationPlace, Place
from kvengine.testing.world.report import Report
from kvengine.testing.world.traffic import Traffic
from kvengine.testing.world.virtual_time import VirtualTime, WorldClock
from kvengine.tier.counters import Counters, Histogram
from kvengine.tier.messages import Shown
from kvengine.tier.reading import Ask
from kvengine.tier.settings import Settings

CENTER = "center"
LIGHT_S = 0.15  # one way around half the world
NEAR_S = 0.001
SMALL = {"floor_groups": 1 << 8, "board_bytes": 1 << 20}


class World:
    """A world.

    Args:
        seed: of everything that happens by chance.
        locations: how many there are; they are named loc-0, loc-1, ...
        regions: how many regional tiers stand between them and the center, reg-0, ...; 0: none.
        keys: how many keys the center has at the beginning: b"key-0", b"key-1", ...
        value_bytes: how long their values are, about.
        loss, duplication, jitter: how messages fare; see Weather.
        clock_skew_s: clocks are up to so many seconds ahead or behind.
        clock_drift: clocks run up to this part faster or slower.
        latency: gives the seconds from one place to another; None: places lie on a globe.
        with_disk: locations have copies on disk, which survive their crashes.
        settings: of the locations; see kvengine.tier.settings.Settings.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        locations: int = 10,
        regions: int = 0,
        keys: int = 1000,
        value_bytes: int = 100,
        loss: float = 0.0,
        duplication: float = 0.0,
        jitter: float = 0.2,
        clock_skew_s: float = 0.0,
        clock_drift: float = 0.0,
        latency: Callable[[str, str], float] | None = None,
        with_disk: bool = False,
        **settings: Any,
    ) -> None:
        self.seed, self.with_disk, self.value_bytes = seed, with_disk, value_bytes
        self.chance = random.Random(seed)
        self.time = VirtualTime()
        self.settings = Settings(**{"memory_bytes": 1 << 20, **SMALL, **settings})
        self._spots: dict[str, tuple[float, float]] = {}
        self._ways: dict[tuple[str, str], float] = {}
        self.spread = Histogram()  # how long changes took to reach a location
        weather = Weather(loss=loss, duplication=duplication, jitter=jitter)
        self.network = Network(self.time, self.chance, latency or self._latency, weather)
        self.is_lossy = bool(loss)
        self._skew, self._drift = clock_skew_s, clock_drift
        self.checker = Checker(self.settings.bound_s, self.settings.negative_ttl_s)
        self.read_times = Histogram()
        self.reads = self.writes = self.failed_reads = self.failed_writes = 0
        self.upstream_reads = 0
        center_settings = Settings(board_bytes=8 << 20, push_bytes=self.settings.push_bytes)
        self.center = CenterPlace(self, CENTER, self._clock(CENTER), center_settings)
        self.regions = [self._place(f"reg-{n}", self.center) for n in range(regions)]
        self.leaves = [
            self._place(f"loc-{n}", self.regions[n % regions] if regions else self.center)
            for n in range(locations)
        ]
        self.places: dict[str, Place] = {
            place.name: place for place in (self.center, *self.regions, *self.leaves)
        }
        self.traffic = Traffic(self, keys)
        self.run(2.0)  # they meet

    # -- making it

    def _clock(self, name: str) -> WorldClock:
        ahead = self.chance.uniform(-self._skew, self._skew)
        return WorldClock(self.time, ahead, 1 + self.chance.uniform(-self._drift, self._drift))

    def _place(self, name: str, upstream: Place) -> LocationPlace:
        return LocationPlace(self, name, self._clock(name), upstream, self.settings)

    def _latency(self, origin: str, target: str) -> float:
        """Return the time light in glass takes between two spots of a globe, and a little more."""
        found = self._ways.get((origin, target))
        if found is None:
            found = self._ways[origin, target] = self._way(origin, target)
        return found

    def _way(self, origin: str, target: str) -> float:
        return NEAR_S + LIGHT_S * _angle(self._spot(origin), self._spot(target)) / math.pi

    def _spot(self, name: str) -> tuple[float, float]:
        spot = self._spots.get(name)
        if spot is None:
            chance = random.Random(f"{self.seed} {name}")
            spot = (math.asin(chance.uniform(-0.6, 0.9)), chance.uniform(-math.pi, math.pi))
            self._spots[name] = spot
        return spot

    # -- letting it run

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        with quiet_collector():
            self.time.run_until(self.time.now + seconds)

    def heard(self, key: bytes) -> None:
        """A location has heard that a key changed."""
        since = self.checker.changed_at(key)
        if since is not None:
            self.spread.add(self.time.now - since)

    def wait_for(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        """Start something, let time pass until it has its result, and return or raise it."""
        box: list[Any] = []
        start(box.append)
        while not box and self.time.step():
            pass
        if isinstance(box[0], Exception):
            raise box[0]
        return box[0]

    # -- reading and writing

    def read(self, place: str, key: bytes, **ask: Any) -> Shown:
        """Read a key at a location, and return what it shows.

        Args:
            place: the name of a location.
            key: the key.
            ask: ttl, floor, stale_if_error; see kvengine.tier.reading.Ask.

        Raises:
            UpstreamUnavailable: nothing that is held is new enough.
        """
        shown: Shown = self.wait_for(lambda done: self.start_read(place, key, done, **ask))
        return shown

    def start_read(
        self, place: str, key: bytes, done: Callable[[Any], None] | None = None, **ask: Any
    ) -> None:
        """Begin to read; `done` is called with Shown or with the error."""
        leaf = self._leaf(place)
        wanted = Ask(**{"ttl": self.settings.cache_ttl_s, **ask})
        began = self.time.now
        self.reads += 1
        if not leaf.is_up:
            self._read_failed(UpstreamUnavailable(f"{place} is down"), done)
            return

        def ended(result: Any) -> None:
            if isinstance(result, Exception):
                self._read_failed(result, done)
                return
            now = self.time.now
            self.read_times.add(now - began)
            bound = max(wanted.ttl, self.settings.bound_s if result.status == "STALE" else 0.0)
            bound = max(bound, wanted.stale_if_error)
            self.checker.read(place, key, result, began, now, bound)
            if done is not None:
                done(result)

        leaf.door.read(key, wanted, ended)

    def _read_failed(self, error: Exception, done: Callable[[Any], None] | None) -> None:
        self.failed_reads += 1
        if done is not None:
            done(error)

    def write(self, place: str, key: bytes, value: bytes | None) -> int:
        """Write a value (None: delete the key) at the center or at a location.

        Returns:
            The version of the change; 0 if there was nothing to delete.

        Raises:
            UpstreamUnavailable: it was not acknowledged; it may have been done all the same.
        """
        version: int = self.wait_for(lambda done: self.start_write(place, key, value, done))
        return version

    def start_write(
        self,
        place: str,
        key: bytes,
        value: bytes | None,
        done: Callable[[Any], None] | None = None,
    ) -> None:
        """Begin to write; `done` is called with the version or with the error."""
        self.writes += 1
        done = done or (lambda result: None)
        if place == CENTER:
            self._write_at_center(key, value, done)
            return
        leaf = self._leaf(place)
        if not leaf.is_up:
            self.failed_writes += 1
            done(UpstreamUnavailable(f"{place} is down"))
            return
        life, finish = leaf.life, done

        def acknowledged(result: Any) -> None:
            if isinstance(result, Exception):
                self.failed_writes += 1
            elif leaf.life == life:
                leaf.door.wrote([key], result)
                if self.checker.knows(key):
                    self.checker.wrote(place, key, result, self.time.now)
            finish(result)

        self._carry_write(
            leaf, lambda reply: self._write_at_center(key, value, reply), acknowledged
        )

    def _carry_write(
        self, leaf: LocationPlace, request: Callable[[Any], None], done: Callable[[Any], None]
    ) -> None:
        """Carry a write to the center; it is done once, however often the request comes."""
        results: list[Any] = []

        def once(reply: Callable[[Any], None]) -> None:
            if not results:
                request(results.append)
            if results:
                reply(results[0])

        leaf.to_center(once, done)

    def _write_at_center(
        self, key: bytes, value: bytes | None, done: Callable[[Any], None]
    ) -> None:
        store, now = self.center.store, self.time.now
        if not self.center.is_up:
            done(UpstreamUnavailable("the center is down"))
            return
        if not self.checker.knows(key):
            entry = store.get_entry(key)
            self.checker.begin(
                key, 0 if entry is None else entry.version, None if entry is None else entry.value
            )
        try:
            version = store.delete(key) if value is None else store.put(key, value)
        except KvError as error:
            done(error)
            return
        if version:
            self.checker.changed(key, version, value, now)
        self.center.pump()
        done(version or store.version)

    # -- mishaps

    def cut(self, place: str, other: str | None = None) -> None:
        """Let nothing pass between a place and another one, or its upstream."""
        self.network.cut(place, other or self._leaf(place).upstream.name)

    def mend(self, place: str, other: str | None = None) -> None:
        """Let messages pass again."""
        self.network.mend(place, other or self._leaf(place).upstream.name)

    def crash(self, place: str) -> None:
        """Let a place lose what it has in memory, and be gone until begin()."""
        found: Any = self.places[place]
        found.crash()

    def begin(self, place: str) -> None:
        """Let a place that crashed begin again."""
        found: Any = self.places[place]
        if not found.is_up:
            found.begin()

    def _leaf(self, name: str) -> LocationPlace:
        place = self.places.get(name)
        if not isinstance(place, LocationPlace):
            raise KeyError(f"the world has no location {name!r}")
        return place

    # -- looking at it

    def report(self) -> Report:
        """Return the figures so far."""
        leaves, regions = Counters(), Counters()
        for leaf in self.leaves:
            leaves.add(leaf.counters)
        for region in self.regions:
            regions.add(region.counters)
        checker = self.checker
        return Report(
            seconds=self.time.now,
            locations=len(self.leaves),
            reads=self.reads,
            writes=self.writes,
            failed_reads=self.failed_reads,
            failed_writes=self.failed_writes,
            leaves=leaves,
            regions=regions,
            upstream_reads=regions.questions if self.regions else leaves.questions,
            messages=self.network.sent,
            lost_messages=self.network.lost,
            stale_reads=checker.stale,
            reads_after_write=checker.after_write,
            stale_after_write=checker.stale_after_write,
            worst_age=checker.worst_age,
            latency=self.read_times,
            violations=checker.violations,
            spread=self.spread,
        )


def _angle(one: tuple[float, float], other: tuple[float, float]) -> float:
    (a, x), (b, y) = one, other
    cosine = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(x - y)
    return math.acos(max(-1.0, min(1.0, cosine)))


@contextlib.contextmanager
def quiet_collector() -> Iterator[None]:
    """Let the garbage collector look less often: what a world makes is freed without it."""
    threshold = gc.get_threshold()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
