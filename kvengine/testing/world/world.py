"""World: a primary, regions and edges, run under virtual time and a seed.

Invariants:

* Everything that happens follows from the seed and from what is called here.
* Every read and every acknowledged write goes to the checker.
"""

from __future__ import annotations

import contextlib
import gc
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kvengine.edge.counters import Counters, Histogram
from kvengine.edge.settings import Settings
from kvengine.engine.store import Store
from kvengine.errors import InvalidRequest
from kvengine.options import named
from kvengine.testing.world.checker import Checker
from kvengine.testing.world.clients import PRIMARY, Clients
from kvengine.testing.world.geography import latency_of
from kvengine.testing.world.namespace import WorldNamespace
from kvengine.testing.world.network import LinkFaults, Network
from kvengine.testing.world.nodes import SimulatedEdge, SimulatedNode, SimulatedPrimary, copy_of
from kvengine.testing.world.report import Report
from kvengine.testing.world.traffic import Traffic
from kvengine.testing.world.virtual_time import VirtualTime, WorldClock
from kvengine.testing.world.workload import content_of

STARTUP_S = 2.0


class World(Clients):
    """A simulated world, whose edges run the code of real ones.

    Time passes only here: in run(), and while a read or a write waits for its answer.  The same
    seed and the same calls give the same history.

    >>> world = World(seed=1, edges=3, keys=10)
    >>> version = world.write("primary", b"flag", b"on")
    >>> world.read("edge-2", b"flag").value
    b'on'
    >>> world.cut("edge-2")                      # from its upstream
    >>> version = world.write("primary", b"flag", b"off")
    >>> world.read("edge-2", b"flag").value      # it can't know yet
    b'on'
    >>> world.run(61)
    >>> world.read("edge-2", b"flag")
    Traceback (most recent call last):
    kvengine.errors.UpstreamUnavailable: the upstream does not answer: no answer to a poll
    >>> world.heal("edge-2")
    >>> world.run(10)
    >>> world.read("edge-2", b"flag").value
    b'off'

    **Does a program of yours bear what edges may show?**  Give it namespaces of a world
    instead of those of a database, let faults happen, and see whether it does what it should.
    This one publishes a page as two values, so a reader may find a new title above an old body:

    >>> def publish(kv, title, body):
    ...     kv.put("title", title)
    ...     kv.put("body", body)
    >>> def page(kv):
    ...     return kv.get("title"), kv.get("body")
    >>> def pages_seen(seed):
    ...     world = World(seed=seed, edges=2, keys=0)
    ...     author, reader = world.namespace("primary"), world.namespace("edge-0")
    ...     publish(author, "one", "1")
    ...     yield page(reader)
    ...     world.later(world.rng.uniform(0, 0.4), lambda: world.cut("edge-0"))
    ...     publish(author, "two", "2")
    ...     world.run(30)
    ...     yield page(reader)
    >>> sorted({page for seed in range(20) for page in pages_seen(seed)})
    [('one', '1'), ('two', '1'), ('two', '2')]

    With hypothesis the faults come from it; tests/world/test_application.py shows how.

    Args:
        seed: of everything that happens by rng.
        edges: how many there are; they are named edge-0, edge-1, ...
        regions: how many regional tiers stand between them and the primary, reg-0, ...; 0: none.
            Edge n belongs to region n modulo their number.
        keys: how many keys the primary has at the beginning: b"key-0", b"key-1", ...
        value_bytes: how long their values are, about.
        content: pairs of key and value that the primary has at the beginning instead.
        loss: the share of messages that are lost.
        duplication: the share of messages that arrive twice.
        jitter: up to this part of its latency a message takes longer, so they overtake each other.
        delay_s: seconds that every message takes longer.
        clock_skew_s: clocks are up to so many seconds ahead or behind.
        clock_drift: clocks run up to this part faster or slower.
        latency: seconds from one node to another: a function of their names, or a matrix, which
            is a dict from pairs of names to seconds; None: nodes lie on a globe.
        with_disk: edges have copies on disk, which survive their crashes but for the end.
        compacts: the primary drops deletes from its log all the time, so an edge that was
            away finds that changes are missing.
        The others are settings of the edges: kvengine.edge.settings.Settings says what each is for.

    Raises:
        InvalidRequest: an argument is not valid.

    Thread-safety: for one thread.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        edges: int = 10,
        regions: int = 0,
        keys: int = 1000,
        value_bytes: int = 100,
        content: Iterable[tuple[bytes, bytes]] | None = None,
        loss: float = 0.0,
        duplication: float = 0.0,
        jitter: float = 0.2,
        delay_s: float = 0.0,
        clock_skew_s: float = 0.0,
        clock_drift: float = 0.0,
        latency: Any = None,
        with_disk: bool = False,
        compacts: bool = False,
        memory_bytes: int = 1 << 20,
        disk_bytes: int = 1 << 30,
        bound_s: float = 60.0,
        cache_ttl_s: float = 60.0,
        negative_ttl_s: float = 0.0,
        stale_if_error_s: float = 0.0,
        refresh_share: float = 0.75,
        poll_timeout_s: float = 2.0,
        grace_s: float = 2.0,
        timeout_s: float = 10.0,
        retry_s: float = 0.05,
        retry_max_s: float = 5.0,
        change_buffer_bytes: int = 1 << 20,
        push_bytes: int = 4096,
        watermark_groups: int = 1 << 8,
    ) -> None:
        settings = named(Settings, locals())
        super().__init__()
        if edges < 1 or regions < 0 or keys < 0:
            raise InvalidRequest("a world has at least one edge, and not less than no keys")
        self.seed, self.with_disk, self.value_bytes = seed, with_disk, value_bytes
        self.compacts = compacts
        self.rng = random.Random(seed)
        self.time = VirtualTime()
        self.settings = Settings(**settings)
        self.propagation = Histogram()  # how long changes took to reach an edge
        faults = LinkFaults(loss, duplication, jitter, delay_s)
        # A generator of its own, so the traffic does not depend on message faults.
        rng = random.Random(f"{seed} network")
        self.network = Network(self.time, rng, latency_of(latency, seed), faults)
        self.is_lossy = bool(loss)
        self._skew, self._drift = clock_skew_s, clock_drift
        self.checker = Checker(self.settings.bound_s, self.settings.negative_ttl_s, self._expiry)
        self._make_nodes(
            edges, regions, content_of(keys, value_bytes) if content is None else content
        )
        self.traffic = Traffic(self, keys)
        self.run(STARTUP_S)

    # -- making it

    def _make_nodes(self, edges: int, regions: int, content: Iterable[tuple[bytes, bytes]]) -> None:
        primary_settings = Settings(
            change_buffer_bytes=8 << 20, push_bytes=self.settings.push_bytes
        )
        self.primary = SimulatedPrimary(
            self,
            PRIMARY,
            self._clock(PRIMARY),
            primary_settings,
            content,
        )
        self.regions = [self._node(f"reg-{n}", self.primary) for n in range(regions)]
        self.leaves = [
            self._node(f"edge-{n}", self.regions[n % regions] if regions else self.primary)
            for n in range(edges)
        ]
        self.nodes: dict[str, SimulatedNode] = {
            node.name: node for node in (self.primary, *self.regions, *self.leaves)
        }

    def _clock(self, name: str) -> WorldClock:
        ahead = self.rng.uniform(-self._skew, self._skew)
        return WorldClock(self.time, ahead, 1 + self.rng.uniform(-self._drift, self._drift))

    def _node(self, name: str, upstream: SimulatedNode) -> SimulatedEdge:
        return SimulatedEdge(self, name, self._clock(name), upstream, self.settings)

    def _expiry(self, name: str, wall: float) -> tuple[float, float]:
        """Return when a node, or one between it and the primary, first and last has this time."""
        moments = [node.clock.moment_of(wall) for node in self.node(name).line()]
        return min(moments), max(moments)

    # -- letting it run

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.time.now

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        with quiet_collector():
            self.time.run_until(self.time.now + seconds)

    def later(self, delay_s: float, call: Callable[[], Any]) -> None:
        """Call a function in so many seconds; it must not wait: use start_read(), start_write()."""
        self.time.later(delay_s, call)

    def _change_received(self, key: bytes) -> None:
        """An edge received a change of a key."""
        since = self.checker.changed_at(key)
        if since is not None:
            self.propagation.add(self.time.now - since)

    def namespace(self, node: str) -> WorldNamespace:
        """Return what a program at a node reads and writes: it has the methods of Namespace.

        Raises:
            InvalidRequest: there is no such node.
        """
        self.node(node)
        return WorldNamespace(self, node)

    # -- faults

    def cut(self, node: str, other: str | None = None, *, one_way: bool = False) -> None:
        """Let nothing pass between a node and another one, or its upstream.

        Args:
            node: the name of a node.
            other: the name of another; None: its upstream.
            one_way: what goes to `other` is lost, what comes from there arrives.
        """
        self.network.cut(node, other or self._upstream(node), one_way=one_way)

    def partition(self, nodes: Iterable[str]) -> None:
        """Let nothing pass between some nodes and all others."""
        self._split(nodes, self.network.cut)

    def heal(self, node: str | Iterable[str], other: str | None = None) -> None:
        """Let messages pass again.

        Args:
            node: what was cut(), or the nodes that were given to partition().
            other: as for cut().
        """
        if isinstance(node, str):
            self.network.heal(node, other or self._upstream(node))
        else:
            self._split(node, self.network.heal)

    def _split(self, nodes: Iterable[str], inject: Callable[[str, str], None]) -> None:
        inside = {self.node(name).name for name in nodes}
        for one in inside:
            for other in self.nodes.keys() - inside:
                inject(one, other)

    def crash(self, node: str) -> None:
        """Let a node lose what it has in memory, and be gone until begin()."""
        found: Any = self.node(node)
        found.crash()

    def begin(self, node: str) -> None:
        """Let a node that crashed begin again."""
        found: Any = self.node(node)
        if not found.is_up:
            found.begin()

    def backup(self) -> Store:
        """Return what the primary has now."""
        return copy_of(self.primary.store)

    def restore(self, backup: Store) -> None:
        """Let the primary begin again with what a backup has: later changes are lost.

        What was promised of them is not kept, so reads of their keys can't be judged any more.
        """
        self.primary.restore(backup)

    def _upstream(self, name: str) -> str:
        node = self.node(name)
        if not isinstance(node, SimulatedEdge):
            raise InvalidRequest(f"{name} has no upstream: say from whom it is cut off")
        return node.upstream.name

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
            seed=self.seed,
            edges=len(self.leaves),
            region_count=len(self.regions),
            keys=len(self.primary.store),
            reads=self.reads,
            writes=self.writes,
            failed_reads=self.failed_reads,
            failed_writes=self.failed_writes,
            leaves=leaves,
            regions=regions,
            upstream_reads=regions.requests if self.regions else leaves.requests,
            primary_bytes=self.network.bytes_from.get(PRIMARY, 0),
            messages=self.network.sent,
            message_bytes=self.network.bytes,
            lost_messages=self.network.lost,
            staleness=checker.staleness,
            reads_after_write=checker.after_write,
            stale_after_write=checker.stale_after_write,
            latency=self.read_times,
            checked=checker.checked,
            violations=checker.violations,
            propagation=self.propagation,
        )


@contextlib.contextmanager
def quiet_collector() -> Iterator[None]:
    """Let the garbage collector look less often: what a world makes is freed without it."""
    threshold = gc.get_threshold()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
