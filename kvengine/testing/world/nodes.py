"""The nodes of a world: the primary, and the edges, which may crash and begin again.

Invariants:

* Nothing happens in a thread of its own: stores are compacted when it is time for that.
* An edge that crashes loses the end of what it has written to its disk, which may be in the
  middle of what belongs together.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kvengine.edge.counters import Counters
from kvengine.edge.disk import DiskCache
from kvengine.edge.messages import ReadResult
from kvengine.edge.node import EdgeNode
from kvengine.edge.primary import Primary
from kvengine.edge.settings import Settings
from kvengine.edge.upstream.poller import ChangePoller
from kvengine.engine.jobs import maintenance
from kvengine.engine.store import Store
from kvengine.testing.world.link import Link
from kvengine.testing.world.virtual_time import WorldClock

if TYPE_CHECKING:
    from kvengine.testing.world.world import World

COMPACT_S = 5.0
UNSYNCED_MAX = 50  # writes to a disk that may be lost in a crash


def copy_of(store: Store, version: int | None = None) -> Store:
    """Return another store in memory, as this one was at a version if that can still be known."""
    options = store._parts.options
    made = Store.in_memory(clock=options.clock, compaction="manual", groups=options.groups)
    found = [one for one in store.tail(0) if version is None or one.version <= version]
    if found:
        made._parts.apply(tuple(found))
    return made


class SimulatedNode:
    """A machine: it has a name, a clock, and is up or not."""

    endpoint: Any  # what others ask

    def __init__(self, world: World, name: str, clock: WorldClock) -> None:
        self.world, self.name, self.clock = world, name, clock
        self.is_up = True
        self.incarnation = 1  # how often it has begun

    def line(self) -> Iterator[SimulatedNode]:
        """Yield the nodes between this one and the primary, with both."""
        yield self


class SimulatedPrimary(SimulatedNode):
    """The primary, with a store in memory."""

    endpoint: Primary

    def __init__(
        self,
        world: World,
        name: str,
        clock: WorldClock,
        settings: Settings,
        content: Iterable[tuple[bytes, bytes]],
    ) -> None:
        super().__init__(world, name, clock)
        self.store = Store.in_memory(clock=clock, compaction="manual")
        self.store.update(content)
        self._settings = settings
        self.begin()
        clock.later(COMPACT_S, self._compact_if_due)

    def _compact_if_due(self) -> None:
        """Compact the store if that is due, as its own thread would."""
        if self.world.compacts or maintenance.is_too_large(self.store._parts):
            self.store.compact()
        self.clock.later(COMPACT_S, self._compact_if_due)

    def restore(self, backup: Store) -> None:
        """Begin again with what a backup has: the changes since then are lost."""
        self.crash()
        self.store = copy_of(backup)
        self.begin()

    def begin(self) -> None:
        """Begin, with an empty change buffer."""
        self.is_up = True
        self.incarnation += 1
        self.endpoint = Primary(
            self.store, self._settings, monotonic=self.clock.monotonic, later=self.clock.later
        )

    def read(self, key: bytes) -> ReadResult:
        """Read where the store is."""
        version, entry = self.store.version, self.store.get_entry(key)
        if entry is None:
            return ReadResult(None, b"", None, 0, 0.0, "MISS", version)
        found = (entry.value, entry.metadata, entry.expires_at, entry.version)
        return ReadResult(*found, 0.0, "MISS", version)

    def crash(self) -> None:
        """Crash: the store stays as it was; polls that wait are dropped."""
        self.is_up = False
        self.incarnation += 1
        self.endpoint.change_buffer.close()

    def pump(self) -> None:
        """Deliver what was written to the polls that wait."""
        if self.is_up:
            self.endpoint.pump()


class SimulatedEdge(SimulatedNode):
    """An edge, whose upstream is another node."""

    endpoint: EdgeNode

    def __init__(
        self,
        world: World,
        name: str,
        clock: WorldClock,
        upstream: SimulatedNode,
        settings: Settings,
    ) -> None:
        super().__init__(world, name, clock)
        self.upstream, self.settings = upstream, settings
        self.past = Counters()  # from before the last crash
        self.disk: DiskCache | None = None
        self.synced = 0  # the version of the disk's store up to which nothing can be lost
        if world.with_disk:
            self.disk = DiskCache(None, settings.disk_bytes)
        self.begin()

    def line(self) -> Iterator[SimulatedNode]:
        """Yield the nodes between this one and the primary, with both."""
        yield self
        yield from self.upstream.line()

    def begin(self) -> None:
        """Begin, with nothing in memory."""
        self.is_up = True
        self.incarnation += 1
        rng = random.Random(f"{self.world.seed} {self.name} {self.incarnation}")
        self.link = self._link_to(self.upstream)
        incarnation = self.incarnation

        def later(delay_s: float, call: Any) -> None:
            self.clock.later(delay_s, lambda: call() if self.incarnation == incarnation else None)

        self.endpoint = EdgeNode(
            self.link,
            self.settings,
            monotonic=self.clock.monotonic,
            wall=self.clock.time,
            later=later,
            disk=self.disk,
            seed=self.world.seed,
            changed=lambda key: self.world._change_received(key) if key is not None else None,
        )
        self.poller = ChangePoller(
            self.endpoint,
            self.link,
            monotonic=self.clock.monotonic,
            later=later,
            jitter=rng.random,
        )
        self.poller.begin()

    def crash(self) -> None:
        """Be gone, with everything that was in memory."""
        if self.is_up:
            self.is_up = False
            self.incarnation += 1
            self.poller.close()
            self.endpoint.change_buffer.close()
            self.past.add(self.endpoint.counters)
            if self.disk is not None:
                self._lose_unsynced()

    def sync(self) -> None:
        """Let what is on the disk survive a crash."""
        if self.disk is not None:
            self.synced = self.disk.store.version

    def _lose_unsynced(self) -> None:
        """Lose the last writes to the disk, a random number of them."""
        assert self.disk is not None
        rng = random.Random(f"{self.world.seed} {self.name} {self.incarnation} disk")
        store = self.disk.store
        lost = rng.randint(0, min(UNSYNCED_MAX, store.version - self.synced))
        left = copy_of(store, store.version - lost)
        self.synced = left.version
        store.close()
        self.disk = DiskCache(left, self.settings.disk_bytes)

    def to_primary(self, request: Any, done: Any) -> None:
        """Carry a request past all tiers to the primary, and its answer back."""
        self._link_to(self.world.primary).ask(request, done)

    def _link_to(self, target: SimulatedNode) -> Link:
        return Link(
            self.world.network,
            self,
            target,
            timeout_s=self.settings.timeout_s,
            resends=self.world.is_lossy,
        )

    @property
    def counters(self) -> Counters:
        """Counts since the world began."""
        total = Counters()
        total.add(self.past)
        if self.is_up:
            total.add(self.endpoint.counters)
        return total
