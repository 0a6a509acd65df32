"""The traffic of a world: readers everywhere, a few writers, and faults."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from kvengine.testing.world.clients import PRIMARY
from kvengine.testing.world.workload import Zipf, key_of, value_of

if TYPE_CHECKING:
    from kvengine.testing.world.world import World


class Traffic:
    """Reads, writes and faults at random times.

    Args:
        world: where they happen.
        keys: how many keys there are at the beginning.
    """

    def __init__(self, world: World, keys: int) -> None:
        self._world, self.keys = world, keys
        self._rng = world.rng
        self._changes = 0

    def run(
        self,
        seconds: float,
        *,
        reads_per_s: float,
        writes_per_s: float,
        skew: float = 1.0,
        delete_share: float = 0.1,
        new_share: float = 0.1,
        expire_share: float = 0.1,
        ttl_s: float = 20.0,
        options_share: float = 0.2,
    ) -> None:
        """Let readers and writers work for so many seconds.

        Args:
            seconds: of the world.
            reads_per_s: at all edges together.
            writes_per_s: of all writers, who are at the primary and at the edges.
            skew: how uneven the popularity of keys is; see Zipf.
            delete_share: of the writes.
            new_share: of the writes, those of keys that were not there before.
            expire_share: of the writes, those of values that expire.
            ttl_s: after so many seconds, on average.
            options_share: of the reads, those with random options: ttl, min_version and so on.
        """
        world, rng = self._world, self._rng
        keys, nodes = Zipf(self.keys, skew, rng), Zipf(len(world.leaves), 0.5, rng)
        end = world.time.now + seconds

        def read() -> None:
            if world.time.now < end:
                world.time.later(rng.expovariate(reads_per_s), read)
                options = self._random_options() if rng.random() < options_share else {}
                world.start_read(world.leaves[nodes.draw()].name, key_of(keys.draw()), **options)

        def write() -> None:
            if world.time.now < end:
                world.time.later(rng.expovariate(writes_per_s), write)
                self._write(keys, nodes, (new_share, delete_share, expire_share, ttl_s))

        if reads_per_s:
            world.time.later(rng.expovariate(reads_per_s), read)
        if writes_per_s:
            world.time.later(rng.expovariate(writes_per_s), write)
        world.run(end - world.time.now)

    def _random_options(self) -> dict[str, Any]:
        """Return what a reader may say."""
        rng = self._rng
        options: dict[str, Any] = {}
        if rng.random() < 0.5:
            options["ttl"] = rng.choice([0.0, 2.0, 30.0, 300.0])
        if rng.random() < 0.5:
            options["stale_if_error"] = rng.choice([10.0, 120.0])
        if rng.random() < 0.5:
            options["min_version"] = max(
                0, self._world.primary.store.version - rng.choice([0, 1, 10])
            )
        return options

    def _write(self, keys: Zipf, nodes: Zipf, shares: tuple[float, float, float, float]) -> None:
        world, rng = self._world, self._rng
        new_share, delete_share, expire_share, ttl_s = shares
        self._changes += 1
        number, what = keys.draw(), rng.random()
        is_new = what < new_share
        key = b"new-%d" % self._changes if is_new else key_of(number)
        value: bytes | None = value_of(number, self._changes, world.value_bytes)
        if new_share <= what < new_share + delete_share:
            value = None
        ttl = None
        if value is not None and rng.random() < expire_share:
            ttl = 0.1 + rng.expovariate(1 / ttl_s)
            self._look_for(key, nodes, ttl)
        node = PRIMARY if rng.random() < 0.5 else world.leaves[nodes.draw()].name
        reader = world.leaves[nodes.draw()].name

        def written(result: Any) -> None:
            if not isinstance(result, Exception) and is_new:
                world.start_read(reader, key, min_version=result)

        world.start_write(node, key, value, written, ttl=ttl)
        if is_new:  # it is read everywhere, before and after
            for leaf in (world.leaves[nodes.draw()].name for _ in range(3)):
                world.start_read(leaf, key)

    def _look_for(self, key: bytes, nodes: Zipf, ttl: float) -> None:
        """Read a key before, at and after the moment at which it expires."""
        world, rng = self._world, self._rng
        leaf = world.leaves[nodes.draw()].name
        for _ in range(4):
            moment = max(0.0, ttl + rng.uniform(-1, 1) * min(ttl, 3.0))
            world.time.later(moment, functools.partial(world.start_read, leaf, key))

    def schedule_faults(
        self,
        seconds: float,
        *,
        every_s: float,
        cut_s: float = 20.0,
        crash_s: float = 5.0,
        one_way_share: float = 0.2,
    ) -> None:
        """Plan cuts and crashes of random nodes for so many seconds.

        Args:
            seconds: of the world, from now.
            every_s: how long it is from one to the next, on average.
            cut_s, crash_s: how long a cut or a crash lasts, on average.
            one_way_share: of the cuts, those of one direction only.
        """
        world, rng = self._world, self._rng
        moment = rng.expovariate(1 / every_s)
        while moment < seconds:
            node = rng.choice([*world.regions, *world.leaves]).name
            is_cut = rng.random() < 0.6
            lasts = rng.expovariate(1 / (cut_s if is_cut else crash_s))
            inject: Any = world.crash
            if is_cut:
                inject = functools.partial(world.cut, one_way=rng.random() < one_way_share)
            heal = world.heal if is_cut else world.begin
            world.time.later(moment, functools.partial(inject, node))
            world.time.later(moment + lasts, functools.partial(heal, node))
            moment += rng.expovariate(1 / every_s)
