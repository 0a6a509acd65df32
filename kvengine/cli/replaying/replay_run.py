"""A trace, made again in a world: who asks where, and what happened meanwhile.

Invariants:
* the same trace, seed and settings give the same report;
* a key that is read or deleted before it is written was there at the beginning.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from kvengine.cli.replaying.replay_trace import NOT_SAID, READ, WRITE, Progress, Trace
from kvengine.testing.world import Report, World
from kvengine.testing.world.workload import Zipf, value_of
from kvengine.testing.world.world import quiet_collector

INTERVALS = 60  # of the plot
SPREAD = 0.5  # how uneven the edges are; see Zipf
REQUESTS_A_STEP = 5_000
END_S = 11.0  # after the last request: until every answer has come or was given up


@dataclass(slots=True)
class Series:
    """What happened in each interval of a replay."""

    ends: list[float] = field(default_factory=list)  # seconds of the world
    reads_per_s: list[float] = field(default_factory=list)
    primary_per_s: list[float] = field(default_factory=list)  # reads that came to the primary
    hits: list[float] = field(default_factory=list)  # percent of the reads, at edges
    region_hits: list[float] = field(default_factory=list)  # percent of what came to regions
    stale: list[float] = field(default_factory=list)  # percent of the reads


class Replay:
    """Makes the requests of a trace again.

    Args:
        trace: with times.
        edges, regions, seed, memory_bytes: of the world.
        value_bytes: of values whose size the trace does not tell.

    Raises:
        InvalidRequest: the world can't be made like that.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        edges: int,
        regions: int,
        seed: int,
        memory_bytes: int,
        value_bytes: int,
    ) -> None:
        self._trace, self._value_bytes = trace, value_bytes
        self.world = World(
            seed=seed,
            edges=edges,
            regions=regions,
            keys=0,
            content=self._content(),
            memory_bytes=memory_bytes,
        )
        self._reports: list[Report] = []

    def _size(self, number: int) -> int:
        size = self._trace.sizes[number]
        return self._value_bytes if size == NOT_SAID else size

    def _content(self) -> Iterator[tuple[bytes, bytes]]:
        trace = self._trace
        seen = bytearray(len(trace.keys))
        for number, pick in enumerate(trace.picks):
            if not seen[pick]:
                seen[pick] = 1
                if trace.ops[number] != WRITE:
                    yield trace.keys[pick], value_of(pick, 0, self._size(number))

    def run(self, progress: Progress | None = None) -> Report:
        """Make all requests, and return what the world says then."""
        world, trace = self.world, self._trace
        begin, step = world.now, (trace.times[-1] or 1.0) / INTERVALS
        places = Zipf(len(world.leaves), SPREAD, random.Random(world.seed))
        self._reports = [world.report()]
        with quiet_collector():
            for number, moment in enumerate(trace.times):
                if progress is not None and number % REQUESTS_A_STEP == 0:
                    progress(number, len(trace))
                while len(self._reports) < INTERVALS and moment > step * len(self._reports):
                    self._end_interval(begin + step * len(self._reports))
                world.time.run_until(begin + moment)
                self._request(number, world.leaves[places.draw()].name)
        while len(self._reports) <= INTERVALS:
            self._end_interval(begin + step * len(self._reports))
        world.run(END_S)
        return world.report()

    def _end_interval(self, moment: float) -> None:
        self.world.time.run_until(moment)
        self._reports.append(self.world.report())

    def _request(self, number: int, place: str) -> None:
        trace, pick = self._trace, self._trace.picks[number]
        key, op = trace.keys[pick], trace.ops[number]
        if op == READ:
            self.world.start_read(place, key)
        elif op == WRITE:
            self.world.start_write("primary", key, value_of(pick, number + 1, self._size(number)))
        else:
            self.world.start_write("primary", key, None)

    def series(self) -> Series:
        """Return what happened in each interval."""
        series = Series()
        for old, new in pairwise(self._reports):
            seconds = max(new.seconds - old.seconds, 1e-9)
            reads, asked = new.reads - old.reads, new.upstream_reads - old.upstream_reads
            series.ends.append(new.seconds)
            series.reads_per_s.append(reads / seconds)
            series.primary_per_s.append(asked / seconds)
            series.hits.append(100 * _hits(old, new) / max(reads, 1))
            came = new.regions.reads - old.regions.reads
            hits = new.regions.memory_hits - old.regions.memory_hits
            series.region_hits.append(100 * hits / max(came, 1))
            series.stale.append(100 * (new.stale_reads - old.stale_reads) / max(reads, 1))
        return series


def _hits(old: Report, new: Report) -> int:
    return new.leaves.memory_hits - old.leaves.memory_hits
