"""Compaction in the long run: stores of millions of bytes, counted instead of written.

Space amplification, write amplification and the number of segments are promises of the documents;
here they are kept by the choice alone, so a test takes a second and always gives the same figures.
"""

import bisect
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from kvengine.engine.jobs.compaction import Plan, SegmentInfo, choose, garbage_bytes_min

PUT_BYTES, DELETE_BYTES = 2048, 256
KEYS = 10_000
ROUNDS = 4  # each key is overwritten so often, on average
LOOKS = 16  # at the state of the store while a segment fills
SPACE_TARGET = 1.3
SPACE_MAX = 1.4
WRITE_MAX = 4.0
SEGMENTS_MAX = 6  # for each that would be full

Record = tuple[int, int, bool]  # key, version, is a delete


@dataclass
class Segment:
    """A segment, as its records and their sums."""

    id: int
    first_version: int
    records: list[Record] = field(default_factory=list)
    log_bytes: int = 0
    live_bytes: int = 0
    delete_bytes: int = 0
    last_version: int = 0
    sealed: bool = False

    def add(self, record: Record) -> int:
        size = DELETE_BYTES if record[2] else PUT_BYTES
        self.records.append(record)
        self.log_bytes += size
        self.last_version = record[1]
        if record[2]:
            self.delete_bytes += size
        else:
            self.live_bytes += size
        return size

    def info(self) -> SegmentInfo:
        return SegmentInfo(
            self.id,
            self.log_bytes,
            self.live_bytes,
            self.delete_bytes,
            self.first_version,
            self.last_version if self.sealed else 1 << 48,
            self.sealed,
        )


class SimulatedStore:
    """A log of segments that are compacted as the store does it."""

    def __init__(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.version = self.written_bytes = self.copied_bytes = 0
        self.homes: dict[int, tuple[Segment, int]] = {}  # of each living key
        self._ids = itertools.count(1)
        self._next_look = 0
        self.segments = [Segment(next(self._ids), 1)]

    def sums(self) -> tuple[int, int]:
        log_bytes = sum(segment.log_bytes for segment in self.segments)
        return log_bytes, sum(segment.live_bytes for segment in self.segments)

    def change(self, key: int, delete: bool) -> None:
        if delete and key not in self.homes:
            return
        self._maintain()
        self.version += 1
        home, _ = self.homes.pop(key, (None, 0))
        if home is not None:
            home.live_bytes -= PUT_BYTES
        self.written_bytes += self.segments[-1].add((key, self.version, delete))
        if not delete:
            self.homes[key] = self.segments[-1], self.version

    def _maintain(self) -> None:
        active = self.segments[-1]
        if active.log_bytes >= self.segment_bytes:
            self._seal()
        elif self.written_bytes < self._next_look:
            return
        self._next_look = self.written_bytes + self.segment_bytes // LOOKS
        log_bytes, live_bytes = self.sums()
        garbage = log_bytes - live_bytes
        large = log_bytes > SPACE_TARGET * live_bytes
        active = self.segments[-1]
        if (
            large
            and garbage >= garbage_bytes_min(self.segment_bytes)
            and 2 * (active.log_bytes - active.live_bytes) > garbage
        ):
            self._seal()
        while plan := self._plan():
            self._carry_out(plan)

    def _seal(self) -> None:
        self.segments[-1].sealed = True
        self.segments.append(Segment(next(self._ids), self.version + 1))

    def _plan(self) -> Plan | None:
        return choose(
            [segment.info() for segment in self.segments],
            space_target=SPACE_TARGET,
            segment_bytes=self.segment_bytes,
            forgettable_version=self.version,
        )

    def _carry_out(self, plan: Plan) -> None:
        start = [segment.id for segment in self.segments].index(plan.ids[0])
        run = self.segments[start : start + len(plan.ids)]
        made: list[Segment] = []
        for key, version, delete in (record for segment in run for record in segment.records):
            if delete:
                kept = not plan.drop_tombstones
            else:
                kept = self.homes.get(key, (None, 0))[1] == version
            if not kept:
                continue
            assert not plan.drop_only
            if not made or made[-1].log_bytes >= self.segment_bytes:
                made.append(Segment(next(self._ids), version, sealed=True))
            self.copied_bytes += made[-1].add((key, version, delete))
            if not delete:
                self.homes[key] = made[-1], version
        self.segments[start : start + len(run)] = made


@dataclass
class Figures:
    """The worst that was seen, once the store had settled."""

    space: float = 0
    segments: float = 0
    write: float = 0


def measure(store: SimulatedStore, draw: Callable[[], int], deletes: float) -> Figures:
    source = random.Random(2)
    figures = Figures()
    for key in range(KEYS):
        store.change(key, False)
    written, copied = store.written_bytes, store.copied_bytes
    for number in range(ROUNDS * KEYS):
        store.change(draw(), source.random() < deletes)
        if number > KEYS and number % 200 == 0:
            log_bytes, live_bytes = store.sums()
            figures.space = max(figures.space, log_bytes / live_bytes)
            full = log_bytes / store.segment_bytes
            figures.segments = max(figures.segments, len(store.segments) / full)
    figures.write = 1 + (store.copied_bytes - copied) / (store.written_bytes - written)
    return figures


def uniform() -> Callable[[], int]:
    source = random.Random(1)
    return lambda: source.randrange(KEYS)


def zipf() -> Callable[[], int]:
    source = random.Random(1)
    weights = list(itertools.accumulate(1 / rank**0.99 for rank in range(1, KEYS + 1)))
    keys = list(range(KEYS))
    source.shuffle(keys)
    return lambda: keys[min(KEYS - 1, bisect.bisect(weights, source.random() * weights[-1]))]


def in_turn() -> Callable[[], int]:
    return itertools.cycle(range(KEYS)).__next__


@pytest.mark.parametrize("segments", [4, 20, 60])
@pytest.mark.parametrize("distribution", [uniform, zipf, in_turn])
def test_overwrites_take_bounded_space(
    distribution: Callable[[], Callable[[], int]], segments: int
) -> None:
    store = SimulatedStore(KEYS * PUT_BYTES // segments)
    figures = measure(store, distribution(), deletes=0)
    assert figures.space <= SPACE_MAX
    assert figures.write < WRITE_MAX
    assert figures.segments <= SEGMENTS_MAX


@pytest.mark.parametrize("segments", [4, 20])
@pytest.mark.parametrize("deletes", [0.1, 0.3])
def test_deletes_take_bounded_space(deletes: float, segments: int) -> None:
    store = SimulatedStore(KEYS * PUT_BYTES // segments)
    figures = measure(store, uniform(), deletes)
    assert figures.space <= SPACE_MAX
    assert figures.write < WRITE_MAX
    assert figures.segments <= SEGMENTS_MAX


def test_uniform_overwrites_are_written_about_twice() -> None:
    store = SimulatedStore(KEYS * PUT_BYTES // 20)
    assert 1.5 < measure(store, uniform(), deletes=0).write < 2.7


def test_deleting_everything_leaves_nothing() -> None:
    store = SimulatedStore(KEYS * PUT_BYTES // 20)
    for key in range(KEYS):
        store.change(key, False)
    for key in range(KEYS):
        store.change(key, True)
    store._seal()
    store._next_look = 0
    store._maintain()
    assert store.homes == {}
    assert [segment.log_bytes for segment in store.segments] == [0]
