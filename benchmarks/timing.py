"""Clocks, loops and percentiles.

Invariants:
* A timed loop holds nothing but the call: arguments are made before, results are dropped, the
  garbage collector rests, and the time of the same loop without the call is taken away.
* A measurement ends after a number of operations or a number of seconds, whichever is first, and
  says how many operations it did.
* Latencies of single operations have the cost of reading the clock taken away, never below zero.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)
_CHUNK_MIN, _CHUNK_MAX = 64, 50_000
_SUB_BITS = 5  # 32 steps for each doubling: percentiles are right to 3 %


@dataclass(slots=True)
class Sample:
    """What one repeat of one workload measured."""

    operations: int
    nanoseconds: float
    latencies_ns: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def ns_per_operation(self) -> float:
        """Mean time of an operation."""
        return self.nanoseconds / max(self.operations, 1)

    def as_json(self) -> dict[str, Any]:
        """A dict that ``json`` accepts."""
        return {**asdict(self), "ns_per_operation": self.ns_per_operation}


class Histogram:
    """Counts of latencies, in buckets that grow with the latency: its size is always the same."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 << _SUB_BITS, dtype=np.int64)
        self.total = 0
        self.max_ns = 0

    def add(self, latencies_ns: Sequence[int]) -> None:
        """Count these latencies."""
        if not latencies_ns:
            return
        values = np.maximum(np.asarray(latencies_ns, dtype=np.int64), 1)
        self._counts += np.bincount(_bucket(values), minlength=len(self._counts))
        self.total += len(values)
        self.max_ns = max(self.max_ns, int(values.max()))

    def percentile(self, percent: float) -> float:
        """The latency that ``percent`` % of all operations did not exceed."""
        if not self.total:
            return 0.0
        rank = min(max(1, int(np.ceil(self.total * percent / 100))), self.total)
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_bucket_middle(bucket), float(self.max_ns))

    def summary(self) -> dict[str, float]:
        """Percentiles and the maximum, by name."""
        named = {f"p{percent:g}": self.percentile(percent) for percent in PERCENTILES}
        return {**named, "max": float(self.max_ns)} if self.total else {}


def _bucket(values: Any) -> Any:
    exponent = np.floor(np.log2(values)).astype(np.int64)
    fraction = (values * (1 << _SUB_BITS) >> exponent) - (1 << _SUB_BITS)
    return (exponent << _SUB_BITS) + np.clip(fraction, 0, (1 << _SUB_BITS) - 1)


def _bucket_middle(bucket: int) -> float:
    exponent, fraction = bucket >> _SUB_BITS, bucket & ((1 << _SUB_BITS) - 1)
    return float(2**exponent * (1 + (fraction + 0.5) / (1 << _SUB_BITS)))


def time_calls(call: Callable[[Any], object], arguments: Sequence[Any]) -> int:
    """Nanoseconds that ``call`` needs for all arguments, without the loop around it."""
    started = perf_counter_ns()
    for argument in arguments:
        call(argument)
    return max(perf_counter_ns() - started - _loop_ns(arguments), 1)


def time_pairs(call: Callable[[Any, Any], object], pairs: Sequence[tuple[Any, Any]]) -> int:
    """As ``time_calls`` for calls with two arguments."""
    started = perf_counter_ns()
    for first, second in pairs:
        call(first, second)
    return max(perf_counter_ns() - started - _pair_loop_ns(pairs), 1)


def time_steps(steps: Sequence[tuple[Callable[..., object], tuple[Any, ...]]]) -> int:
    """As ``time_calls`` for a mix: each step is a callable with its arguments."""
    started = perf_counter_ns()
    for call, arguments in steps:
        call(*arguments)
    return max(perf_counter_ns() - started - _pair_loop_ns(steps), 1)


def time_each(call: Callable[..., object], steps: Sequence[tuple[Any, ...]]) -> list[int]:
    """Latency of each call, as read from the clock."""
    latencies: list[int] = []
    append, now = latencies.append, perf_counter_ns
    for arguments in steps:
        started = now()
        call(*arguments)
        append(now() - started)
    return latencies


def clock_cost_ns() -> int:
    """What two readings of the clock around nothing report: the median of many."""
    now = perf_counter_ns
    empty = sorted(-(now() - now()) for _ in range(2000))
    return empty[len(empty) // 2]


def without_clock(latencies_ns: list[int], cost_ns: int) -> list[int]:
    """The same latencies less the cost of measuring them."""
    return [max(latency - cost_ns, 0) for latency in latencies_ns]


def _loop_ns(arguments: Sequence[Any]) -> int:
    started = perf_counter_ns()
    for _argument in arguments:
        pass
    return perf_counter_ns() - started


def _pair_loop_ns(pairs: Sequence[tuple[Any, Any]]) -> int:
    started = perf_counter_ns()
    for _first, _second in pairs:
        pass
    return perf_counter_ns() - started


class Budget:
    """Hands out chunk sizes until the operations or the seconds are used up.

    Chunks aim at an eighth of the budget each, so that a slow engine ends near its time.
    """

    def __init__(self, operations: int, seconds: float) -> None:
        self.operations, self.nanoseconds = operations, seconds * 1e9
        self.done, self.spent_ns = 0, 0

    def chunks(self) -> Iterator[int]:
        """Sizes of the next chunk; call ``add`` after each."""
        while self.done < self.operations and self.spent_ns < self.nanoseconds:
            size = _CHUNK_MIN * 4
            if self.done:
                size = int(self.nanoseconds / 8 * self.done / max(self.spent_ns, 1))
            size = max(_CHUNK_MIN, min(size, _CHUNK_MAX))
            yield min(size, self.operations - self.done)

    def add(self, operations: int, nanoseconds: int) -> None:
        """Note what a chunk did."""
        self.done += operations
        self.spent_ns += nanoseconds

    def sample(self) -> Sample:
        """What was done so far."""
        return Sample(self.done, self.spent_ns)


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
