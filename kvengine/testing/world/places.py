"""The places of a world: the center, and the locations, which may crash and begin again."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kvengine.engine.store import Store
from kvengine.testing.world.link import Link
from kvengine.testing.world.virtual_time import WorldClock
from kvengine.tier.center import Center
from kvengine.tier.counters import Counters
from kvengine.tier.disk import DiskCopies
from kvengine.tier.listening import Listening
from kvengine.tier.location import Location
from kvengine.tier.messages import Shown
from kvengine.tier.settings import Settings

if TYPE_CHECKING:
    from kvengine.testing.world.world import World


class Place:
    """A machine: it has a name, a clock, and is up or not."""

    door: Any  # what others ask

    def __init__(self, world: World, name: str, clock: WorldClock) -> None:
        self.world, self.name, self.clock = world, name, clock
        self.is_up = True
        self.life = 1  # how often it has begun

    def line(self) -> Iterator[Place]:
        """Yield the places between this one and the center, with both."""
        yield self


class CenterPlace(Place):
    """The center, with a store in memory."""

    door: Center

    def __init__(
        self,
        world: World,
        name: str,
        clock: WorldClock,
        settings: Settings,
        content: Iterable[tuple[bytes, bytes]],
    ) -> None:
        super().__init__(world, name, clock)
        self.store = Store.in_memory(clock=clock)
        self.store.update(content)
        self._settings = settings
        self.begin()

    def begin(self) -> None:
        """Begin, with an empty board."""
        self.is_up = True
        self.life += 1
        self.door = Center(
            self.store, self._settings, monotonic=self.clock.monotonic, later=self.clock.later
        )

    def read(self, key: bytes) -> Shown:
        """Read where the store is."""
        version, entry = self.store.version, self.store.get_entry(key)
        if entry is None:
            return Shown(None, b"", None, 0, 0.0, "MISS", version)
        found = (entry.value, entry.metadata, entry.expires_at, entry.version)
        return Shown(*found, 0.0, "MISS", version)

    def crash(self) -> None:
        """Be gone; the store is as it was, who waited for news is forgotten."""
        self.is_up = False
        self.life += 1
        self.door.board.close()

    def pump(self) -> None:
        """Bring what was written to those who listen."""
        if self.is_up:
            self.door.pump()


class LocationPlace(Place):
    """A location, whose upstream is another place."""

    door: Location

    def __init__(
        self, world: World, name: str, clock: WorldClock, upstream: Place, settings: Settings
    ) -> None:
        super().__init__(world, name, clock)
        self.upstream, self.settings = upstream, settings
        self.past = Counters()  # of earlier lives
        self.disk: DiskCopies | None = None
        if world.with_disk:
            self.disk = DiskCopies(None, settings.disk_bytes)
        self.begin()

    def line(self) -> Iterator[Place]:
        """Yield the places between this one and the center, with both."""
        yield self
        yield from self.upstream.line()

    def begin(self) -> None:
        """Begin, with nothing in memory."""
        self.is_up = True
        self.life += 1
        chance = random.Random(f"{self.world.seed} {self.name} {self.life}")
        self.link = self._way_to(self.upstream)
        life = self.life

        def later(delay_s: float, call: Any) -> None:
            self.clock.later(delay_s, lambda: call() if self.life == life else None)

        self.door = Location(
            self.link,
            self.settings,
            monotonic=self.clock.monotonic,
            wall=self.clock.time,
            later=later,
            disk=self.disk,
            seed=self.world.seed,
            changed=lambda key: self.world.heard(key) if key is not None else None,
        )
        self.listening = Listening(
            self.door,
            self.link,
            monotonic=self.clock.monotonic,
            later=later,
            chance=chance.random,
        )
        self.listening.begin()

    def crash(self) -> None:
        """Be gone, with everything that was in memory."""
        if self.is_up:
            self.is_up = False
            self.life += 1
            self.listening.close()
            self.door.board.close()
            self.past.add(self.door.counters)

    def to_center(self, request: Any, done: Any) -> None:
        """Carry a request past all tiers to the center, and its answer back."""
        self._way_to(self.world.center).ask(request, done)

    def _way_to(self, target: Place) -> Link:
        return Link(
            self.world.network,
            self,
            target,
            timeout_s=self.settings.timeout_s,
            resends=self.world.is_lossy,
        )

    @property
    def counters(self) -> Counters:
        """Counts of all its lives."""
        total = Counters()
        total.add(self.past)
        if self.is_up:
            total.add(self.door.counters)
        return total
