"""YCSB's six core workloads, on records of 1 KB.

Invariants:
* Mixes and distributions are those of the workload files: A 50 % reads, 50 % updates; B 95/5; C
  reads only; D 95 % reads of the latest, 5 % inserts; E 95 % scans of 1..100 records, 5 % inserts;
  F 50 % reads, 50 % read-modify-writes.  A, B, C, E, F are scrambled Zipf as YCSB has it
  (``distributions.ScrambledZipfian``), D is skewed to the latest.
* A record is one value of 1000 bytes (10 fields of 100); an update writes the whole record.
* The order is YCSB's: load, A, B, C, F, D, then load again, E.
* The store has a tenth of the keys that were asked for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.distributions import Latest, ScrambledZipfian
from benchmarks.engines.base import Engine
from benchmarks.keyspace import KeySpace
from benchmarks.stage import Stage, load
from benchmarks.timing import (
    Budget,
    Histogram,
    Sample,
    clock_cost_ns,
    quiet_collector,
    time_each,
    time_steps,
    without_clock,
)

RECORD_BYTES = 1000
SCAN_MAX = 100
_SHARES = {  # share of reads or scans, kind of the other operation
    "a": (0.5, "update"),
    "b": (0.95, "update"),
    "c": (1.0, "update"),
    "d": (0.95, "insert"),
    "e": (0.95, "insert"),
    "f": (0.5, "modify"),
}
Step = tuple[Callable[..., object], tuple[Any, ...]]


class Records:
    """The YCSB store of one stage, kept between workloads."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self.path = stage.folder / "ycsb"
        count = max(stage.options.keys // 10, 100)
        self.space = KeySpace(
            4 * count,  # room for inserts
            key_bytes=24,
            value_bytes=RECORD_BYTES,
            compressible=stage.options.compressible,
            seed=stage.options.seed,
            name=b"user",
        )
        self.engine = stage.open(self.path)
        self.engine.before_writes()
        self.load = load(self.engine, self.space, count, seconds, self.space.order.at)
        self.count = self.load.operations
        self.engine.settle()
        self.engine.refresh()


def workload(letter: str) -> Callable[[Stage, int, float], Sample]:
    """The function that runs one of the six."""

    def run(stage: Stage, repeat: int, seconds: float) -> Sample:
        records = stage.shared("ycsb", lambda: Records(stage, 2 * stage.options.budget_s))
        steps = Steps(letter, records, stage.generator(ord(letter) + 10 * repeat))
        sample = run_steps(steps, stage.options.keys, seconds, records.engine)
        sample.figures["records"] = records.count
        if letter in {"d", "e"}:
            stage.release("ycsb")
        return sample

    run.__doc__ = f"Workload {letter.upper()}."
    return run


def run_steps(
    steps: Callable[[int], list[Step]], operations: int, seconds: float, engine: Engine
) -> Sample:
    """Time chunks of mixed steps, then a sample of single ones."""
    budget, histogram, cost = Budget(operations, seconds), Histogram(), clock_cost_ns()
    with quiet_collector():
        for size in budget.chunks():
            engine.refresh()
            chunk = steps(size)
            budget.add(size, time_steps(chunk))
        for call, arguments in steps(max(16, min(1000, budget.done // 8))):
            histogram.add(without_clock(time_each(call, [arguments]), cost))
    sample = budget.sample()
    sample.latencies_ns = histogram.summary()
    return sample


class Steps:
    """Makes chunks of the mix of one workload."""

    def __init__(self, letter: str, records: Records, generator: np.random.Generator) -> None:
        self._letter, self._records, self._generator = letter, records, generator
        self._share, self._other = _SHARES[letter]
        self._scrambled = ScrambledZipfian(records.count)
        self._latest = Latest(records.count)
        self._engine = records.engine

    def __call__(self, size: int) -> list[Step]:
        """``size`` steps."""
        generator, space = self._generator, self._records.space
        get, put = self._engine.get, self._engine.put
        first = generator.random(size) < self._share
        if self._letter == "d":
            positions = self._latest.draw(generator, size, self._records.count - 1)
        else:
            positions = self._scrambled.draw(generator, size)
        if self._other == "insert":
            inserts = np.flatnonzero(~first)
            positions[inserts] = self._records.count + np.arange(len(inserts))
            self._records.count += len(inserts)
        numbers = space.order.at(positions.astype(np.uint64) % np.uint64(space.count))
        keys = space.keys(numbers)
        values = iter(space.values(numbers[~first], int(generator.integers(1 << 30))))
        if self._letter == "e":
            read_range = self._engine.range
            lengths = generator.integers(1, SCAN_MAX + 1, size).tolist()
            return [
                (read_range, (key, length)) if scan else (put, (key, next(values)))
                for key, scan, length in zip(keys, first.tolist(), lengths, strict=True)
            ]
        other = self._modify if self._other == "modify" else put
        return [
            (get, (key,)) if read else (other, (key, next(values)))
            for key, read in zip(keys, first.tolist(), strict=True)
        ]

    def _modify(self, key: bytes, value: bytes) -> None:
        self._engine.get(key)
        self._engine.put(key, value)
