"""The mix of Facebook's ZippyDB as db_bench models it (Cao et al., FAST 2020).

Invariants: parameters are those of the published db_bench command (48 B keys, values around 43 B,
83 % gets, 14 % puts, 3 % seeks, 30 key ranges); the sine rate limit is left out, because peaks are
compared.  The store has a quarter of the keys that were asked for, loaded in shuffled order.

The port: a uniform number chooses a range by the two-term exponential weights, ranges being
shuffled once; inside the range a power law gives a seed, and the seed scatters to an offset.  Value
sizes and scan lengths are generalized Pareto, clamped to 10..1024 and taken modulo 10,000.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.keyspace import KeySpace, Numbers, mixed
from benchmarks.stage import Stage, load
from benchmarks.timing import Sample
from benchmarks.workloads.ycsb import Step, run_steps

RANGE_A, RANGE_B, RANGE_C, RANGE_D, RANGES = 14.18, -2.917, 0.0164, -0.08082, 30
KEY_A, KEY_B = 0.002312, 0.3467
VALUE_K, VALUE_SIGMA, VALUE_MIN, VALUE_MAX = 0.2615, 25.45, 10, 1024
SCAN_K, SCAN_SIGMA, SCAN_MAX = 2.517, 14.236, 10_000
GETS, PUTS = 0.83, 0.14
KEY_BYTES, VALUE_BYTES = 48, 43


class KeyChoice:
    """Which of ``count`` keys the next request asks for."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.range_size = count, max(count // RANGES, 1)
        i = np.arange(RANGES, 0, -1, dtype=np.float64)
        weights = RANGE_A * np.exp(RANGE_B * i) + RANGE_C * np.exp(RANGE_D * i)
        amplify = np.floor(1 / weights[weights > 0][0]) + 1
        shares = np.floor(amplify * weights).astype(np.int64)
        self._shuffled = np.random.default_rng(seed).permutation(RANGES)
        self._ends = np.cumsum(shares[self._shuffled])

    def draw(self, generator: np.random.Generator, size: int) -> Numbers:
        """``size`` numbers in ``range(count)``."""
        r = generator.integers(0, self.count, size)
        which = np.searchsorted(self._ends, r % self._ends[-1], side="right")
        u = (r % self.range_size) / self.range_size
        seeds = np.ceil((u / KEY_A) ** (1 / KEY_B)).astype(np.uint64)
        offsets = mixed(seeds) % np.uint64(self.range_size)
        numbers = self._shuffled[which].astype(np.uint64) * np.uint64(self.range_size) + offsets
        return np.asarray(np.minimum(numbers, np.uint64(self.count - 1)), dtype=np.uint64)


def pareto(u: npt.NDArray[np.float64], k: float, sigma: float) -> npt.NDArray[np.int64]:
    """Inverse of the generalized Pareto distribution with edge 0."""
    return np.asarray(np.minimum(sigma * (u**-k - 1) / k, 2**62), dtype=np.int64)


class Graph:
    """The mixgraph store of one stage."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self.path = stage.folder / "mixgraph"
        count = max(stage.options.keys // 4, 1000)
        self.space = KeySpace(
            count,
            key_bytes=KEY_BYTES,
            value_bytes=VALUE_BYTES,
            compressible=stage.options.compressible,
            seed=stage.options.seed,
        )
        self.engine = stage.open(self.path)
        self.engine.before_writes()
        self.count = load(self.engine, self.space, count, seconds, self.space.order.at).operations
        self.engine.settle()
        self.engine.refresh()


def mixgraph(stage: Stage, repeat: int, seconds: float) -> Sample:
    """Gets, puts and seeks in ZippyDB's proportions."""
    graph = stage.shared("mixgraph", lambda: Graph(stage, 2 * stage.options.budget_s))
    generator = stage.generator(1200 + repeat)
    choice = KeyChoice(graph.count, stage.options.seed)
    engine, space = graph.engine, graph.space

    def steps(size: int) -> list[Step]:
        numbers = space.order.at(choice.draw(generator, size))
        keys, kinds = space.keys(numbers), generator.random(size)
        sizes = np.clip(pareto(generator.random(size), VALUE_K, VALUE_SIGMA), VALUE_MIN, VALUE_MAX)
        lengths = pareto(generator.random(size), SCAN_K, SCAN_SIGMA) % SCAN_MAX
        values = space.sized_values(numbers, sizes.tolist(), 1 + repeat)
        calls: list[Callable[..., object]] = [engine.get, engine.put, engine.range]
        which = np.digitize(kinds, (GETS, GETS + PUTS)).tolist()
        arguments: list[tuple[Any, ...]] = [
            ((key,), (key, value), (key, max(1, length)))[kind]
            for key, value, length, kind in zip(keys, values, lengths.tolist(), which, strict=True)
        ]
        return [(calls[kind], given) for kind, given in zip(which, arguments, strict=True)]

    sample = run_steps(steps, stage.options.keys, seconds, engine)
    sample.figures["pairs"] = graph.count
    return sample
