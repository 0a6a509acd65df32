"""The stores that the workloads of one engine share, opened and loaded when first needed.

Invariants:
* ``main`` holds pairs in the order of one shuffle; the first ``loaded`` numbers of that shuffle are
  stored and no others.  A slow engine may hold fewer pairs than were asked for, and says so.
* What was loaded is checked: a sample is read back and compared, so that no time is ever reported
  for wrong answers.
* A folder that is not needed any more is removed at once.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from benchmarks import footprint
from benchmarks.engines import ENGINES
from benchmarks.engines.base import DURABLE, Durability, Engine
from benchmarks.keyspace import KeySpace, Numbers
from benchmarks.options import Options
from benchmarks.timing import Budget, Sample, quiet_collector

BATCH_PAIRS = 1000
_CHECKED = 200
_LOAD_WEIGHT = 8.0  # seconds of loading for each second of budget


class WrongAnswer(Exception):
    """The engine did not return what was stored."""


class SideStore(Protocol):
    """A store beside the main one, with what its workloads need to know of it."""

    path: Path
    engine: Engine


SideStoreT = TypeVar("SideStoreT", bound=SideStore)


class Stage:
    """One engine with one kind of settings, in one process."""

    def __init__(self, engine: str, settings: str, options: Options, folder: Path) -> None:
        self.kind = ENGINES[engine]
        self.settings, self.options, self.folder = settings, options, folder
        self.space = self.key_space(options.keys)
        self.loaded = 0
        self.generation = 0  # how often the main store was overwritten
        self.load_sample: Sample | None = None
        self._main: Engine | None = None
        self._shared: dict[str, SideStore] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def main_path(self) -> Path:
        """Where the main store lies."""
        return self.folder / "main"

    def key_space(self, count: int) -> KeySpace:
        """Keys and values as the options ask for."""
        options = self.options
        return KeySpace(
            max(count, 1),
            key_bytes=options.key_bytes,
            value_bytes=options.value_bytes,
            kind=options.key_kind,
            compressible=options.compressible,
            seed=options.seed,
        )

    def generator(self, salt: int) -> np.random.Generator:
        """Random numbers that are the same for every engine."""
        return np.random.default_rng([self.options.seed, salt])

    def open(self, path: Path, durability: Durability = "os") -> Engine:
        """Open a store of this engine."""
        return self.kind(path, self.settings, durability)

    def main(self) -> Engine:
        """The main store: open, loaded, and showing its newest state to readers."""
        if self._main is None:
            if self.load_sample is None:
                self._main = self._load_main()
            else:
                self._main = self.open(self.main_path)
        self._main.refresh()
        return self._main

    def close_main(self) -> None:
        """Close the main store so that another process can open it; ``main`` opens it again."""
        if self._main is not None and DURABLE in self.kind.abilities:
            self._main.close()
            self._main = None

    def drop_main(self) -> None:
        """Remove the main store; ``main`` would load it anew."""
        if self._main is not None:
            self._main.close()
        self._main, self.load_sample, self.generation = None, None, 0
        shutil.rmtree(self.main_path, ignore_errors=True)

    def stored(self, positions: Numbers) -> Numbers:
        """Numbers of stored keys, by position in the order of loading."""
        return self.space.order.at(positions % np.uint64(max(self.loaded, 1)))

    def random_stored(self, generator: np.random.Generator, size: int) -> Numbers:
        """Numbers of stored keys, uniform."""
        return self.space.order.at(
            generator.integers(0, max(self.loaded, 1), size, dtype=np.uint64)
        )

    @contextmanager
    def scratch(self, name: str, durability: Durability = "os") -> Iterator[Engine]:
        """An empty store that is removed afterwards."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        engine = self.open(path, durability)
        try:
            yield engine
        finally:
            engine.close()
            shutil.rmtree(path, ignore_errors=True)

    def shared(self, name: str, make: Callable[[], "SideStoreT"]) -> "SideStoreT":
        """A loaded store that several workloads use, made by the first of them."""
        if name not in self._shared:
            self._shared[name] = make()
        found = self._shared[name]
        found.engine.refresh()
        return cast("SideStoreT", found)

    def release(self, name: str) -> None:
        """Close and remove a shared store."""
        if found := self._shared.pop(name, None):
            found.engine.close()
            shutil.rmtree(found.path, ignore_errors=True)

    def close(self) -> None:
        """Close and remove everything."""
        for name in list(self._shared):
            self.release(name)
        self.drop_main()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _load_main(self) -> Engine:
        self.space.pairs(np.arange(BATCH_PAIRS))  # warm the heap
        footprint.trim_heap()
        before = footprint.memory()
        engine = self.open(self.main_path)
        engine.before_writes()
        seconds = self.options.budget_s * _LOAD_WEIGHT
        sample = load(engine, self.space, self.options.keys, seconds, self.space.order.at)
        self.loaded = sample.operations
        engine.settle()
        engine.refresh()
        self._check(engine)
        footprint.trim_heap()
        after = footprint.memory()
        sample.figures.update({f"memory_{key}": after[key] - before[key] for key in after})
        sample.figures["pairs"] = sample.operations
        sample.figures["user_bytes"] = sample.operations * self.pair_bytes
        if DURABLE in self.kind.abilities:
            sample.figures["disk_bytes"] = footprint.disk_bytes(self.main_path)
            sample.figures["page_cache_bytes"] = footprint.page_cache_bytes(self.main_path)
        sample.figures.update(engine.figures())
        self.load_sample = sample
        return engine

    @property
    def pair_bytes(self) -> int:
        """Bytes of a key and its value."""
        return self.options.key_bytes + self.options.value_bytes

    def _check(self, engine: Engine) -> None:
        numbers = self.random_stored(self.generator(99), _CHECKED)
        for key, value in self.space.pairs(numbers):
            if engine.get(key) != value:
                raise WrongAnswer(f"{self.kind.name}: key {key!r} has another value than stored")
        for key in self.space.absent_keys(numbers):
            if engine.get(key) is not None:
                raise WrongAnswer(f"{self.kind.name}: key {key!r} was never stored but is there")


def load(
    engine: Engine,
    space: KeySpace,
    pairs: int,
    seconds: float,
    order: Callable[[npt.ArrayLike], Numbers] = np.asarray,
) -> Sample:
    """Write ``pairs`` in batches, in a given order, within a time."""
    budget = Budget(pairs, seconds)
    with quiet_collector():
        while budget.done < pairs and budget.spent_ns < budget.nanoseconds:
            size = min(BATCH_PAIRS, pairs - budget.done)
            batch = space.pairs(order(np.arange(budget.done, budget.done + size)))
            started = perf_counter_ns()
            engine.load(batch)
            budget.add(size, perf_counter_ns() - started)
    return budget.sample()
