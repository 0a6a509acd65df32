"""The traffic of a world: readers everywhere, a few writers, and mishaps now and then."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from kvengine.testing.world.workload import Zipf, value_of

if TYPE_CHECKING:
    from kvengine.testing.world.world import World


class Traffic:
    """Reads, writes and mishaps at random times.

    Args:
        world: where they happen.
        keys: how many keys there are at the beginning.
    """

    def __init__(self, world: World, keys: int) -> None:
        self._world, self.keys = world, keys
        self._chance = world.chance
        self._changes = 0
        self._load()

    def _load(self) -> None:
        world = self._world
        size = world.value_bytes
        world.center.store.update(
            (self.key(number), value_of(number, 0, size)) for number in range(self.keys)
        )

    def key(self, number: int) -> bytes:
        """Return the key with a number."""
        return b"key-%d" % number

    def run(
        self,
        seconds: float,
        *,
        reads_per_s: float,
        writes_per_s: float,
        skew: float = 1.0,
        delete_share: float = 0.1,
        new_share: float = 0.1,
    ) -> None:
        """Let readers and writers work for so many seconds.

        Args:
            seconds: of the world.
            reads_per_s: at all locations together.
            writes_per_s: of all writers, who are at the center and at the locations.
            skew: how uneven the popularity of keys is; see Zipf.
            delete_share: of the writes.
            new_share: of the writes, those of keys that were not there before.
        """
        world, chance = self._world, self._chance
        keys, places = Zipf(self.keys, skew, chance), Zipf(len(world.leaves), 0.5, chance)
        end = world.time.now + seconds

        def read() -> None:
            if world.time.now < end:
                world.time.later(chance.expovariate(reads_per_s), read)
                world.start_read(world.leaves[places.draw()].name, self.key(keys.draw()))

        def write() -> None:
            if world.time.now < end:
                world.time.later(chance.expovariate(writes_per_s), write)
                self._write(keys, places, delete_share, new_share)

        if reads_per_s:
            world.time.later(chance.expovariate(reads_per_s), read)
        if writes_per_s:
            world.time.later(chance.expovariate(writes_per_s), write)
        world.run(end - world.time.now)

    def _write(self, keys: Zipf, places: Zipf, delete_share: float, new_share: float) -> None:
        world, chance = self._world, self._chance
        self._changes += 1
        number = keys.draw()
        key = self.key(number)
        what = chance.random()
        if what < new_share:
            key = b"new-%d" % self._changes
        value: bytes | None = value_of(number, self._changes, world.value_bytes)
        if new_share <= what < new_share + delete_share:
            value = None
        place = "center" if chance.random() < 0.5 else world.leaves[places.draw()].name
        world.start_write(place, key, value)
        if what < new_share:  # somebody looks for it everywhere, before and after
            for leaf in (world.leaves[places.draw()].name for _ in range(3)):
                world.start_read(leaf, key)

    def mishaps(
        self, seconds: float, *, every_s: float, cut_s: float = 20.0, crash_s: float = 5.0
    ) -> None:
        """Plan cuts and crashes of random places for so many seconds.

        Args:
            seconds: of the world, from now.
            every_s: how long it is from one to the next, on average.
            cut_s, crash_s: how long a cut or a crash lasts, on average.
        """
        world, chance = self._world, self._chance
        moment = chance.expovariate(1 / every_s)
        while moment < seconds:
            place = chance.choice([*world.regions, *world.leaves]).name
            is_cut = chance.random() < 0.6
            lasts = chance.expovariate(1 / (cut_s if is_cut else crash_s))
            strike, heal = (world.cut, world.mend) if is_cut else (world.crash, world.begin)
            world.time.later(moment, functools.partial(strike, place))
            world.time.later(moment + lasts, functools.partial(heal, place))
            moment += chance.expovariate(1 / every_s)
