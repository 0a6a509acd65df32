"""What a workload is, and the loops that several of them share.

Invariants: a workload gives one ``Sample`` for each repeat, is driven only through the methods of
``Engine``, and draws the same keys for every engine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from benchmarks.engines.base import STORE
from benchmarks.keyspace import Numbers
from benchmarks.stage import Stage
from benchmarks.timing import (
    Budget,
    Histogram,
    Sample,
    clock_cost_ns,
    quiet_collector,
    time_calls,
    time_each,
    time_pairs,
    without_clock,
)

SAMPLED = 4000  # calls of a repeat that are timed one by one, after those that are timed together
_WARM = 256


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table."""

    name: str
    about: str
    run: Callable[[Stage, int, float], Sample]  # (stage, number of the repeat, seconds)
    needs: frozenset[str] = frozenset({STORE})
    weight: float = 1.0  # seconds for all repeats together, at a budget of one second
    repeats: int | None = None  # None: as the options say


def measure_calls(
    call: Callable[[Any], object],
    arguments: Callable[[int], Sequence[Any]],
    operations: int,
    seconds: float,
) -> Sample:
    """Time ``call`` over chunks of fresh arguments, then a sample of single calls."""
    budget = Budget(operations, seconds)
    with quiet_collector():
        for argument in arguments(min(_WARM, operations)):
            call(argument)
        for size in budget.chunks():
            chunk = arguments(size)
            budget.add(size, time_calls(call, chunk))
        sample = budget.sample()
        sampled = _sample_size(sample, seconds)
        sample.latencies_ns = latencies(call, [(item,) for item in arguments(sampled)])
    return sample


def measure_puts(
    put: Callable[[bytes, bytes], object],
    pairs: Callable[[int], Sequence[tuple[bytes, bytes]]],
    operations: int,
    seconds: float,
) -> Sample:
    """Time ``put`` over chunks of fresh pairs."""
    budget = Budget(operations, seconds)
    with quiet_collector():
        for size in budget.chunks():
            chunk = pairs(size)
            budget.add(size, time_pairs(put, chunk))
    return budget.sample()


def measure_each(
    call: Callable[..., object],
    steps: Callable[[int], Sequence[tuple[Any, ...]]],
    operations: int,
    seconds: float,
) -> tuple[Sample, Histogram]:
    """Time every single call: for operations that take microseconds."""
    budget, histogram, cost = Budget(operations, seconds), Histogram(), clock_cost_ns()
    with quiet_collector():
        for size in budget.chunks():
            measured = without_clock(time_each(call, steps(size)), cost)
            histogram.add(measured)
            budget.add(size, sum(measured))
    sample = budget.sample()
    sample.latencies_ns = histogram.summary()
    return sample, histogram


def latencies(call: Callable[..., object], steps: Sequence[tuple[Any, ...]]) -> dict[str, float]:
    """Percentiles of single calls, less the cost of the clock."""
    histogram = Histogram()
    histogram.add(without_clock(time_each(call, steps), clock_cost_ns()))
    return histogram.summary()


class Sequential:
    """Positions 0, 1, 2, ... handed out in chunks."""

    def __init__(self, make: Callable[[int, int], Any], start: int = 0) -> None:
        self._make, self.position = make, start

    def __call__(self, size: int) -> Any:
        """The next ``size`` items."""
        self.position += size
        return self._make(self.position - size, self.position)


def keys_of(stage: Stage, numbers: Callable[[int], Numbers]) -> Callable[[int], list[bytes]]:
    """Chunks of stored keys from chunks of numbers."""
    return lambda size: stage.space.keys(numbers(size))


def consume(iterator: Any, items_max: int, deadline_ns: int, now: Callable[[], int]) -> int:
    """Read an iterator in lists of a thousand until it ends, or enough was read, or time is up."""
    count = 0
    while count < items_max and (chunk := list(islice(iterator, 1000))):
        count += len(chunk)
        if now() > deadline_ns:
            break
    return count


def _sample_size(sample: Sample, seconds: float) -> int:
    """At most a quarter of the time for single calls, and no more than were timed together."""
    affordable = int(seconds * 1e9 / 4 / max(sample.ns_per_operation, 1))
    return max(16, min(SAMPLED, affordable, sample.operations))
