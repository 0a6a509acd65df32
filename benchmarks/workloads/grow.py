"""Put latency while a store grows from nothing, and what a get costs at each size.

Invariants: every put is timed by itself, so a stall that hits one put in a million shows in the
maximum; gets are sampled between the puts and not counted among them.
"""

import numpy as np

from benchmarks.stage import Stage
from benchmarks.timing import (
    Budget,
    Histogram,
    Sample,
    clock_cost_ns,
    quiet_collector,
    time_calls,
    time_each,
    without_clock,
)

_STEPS = 10  # sizes at which the curve gets a point
_CHUNK = 10_000
_GETS = 5000


def grow(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """Single puts of new keys in shuffled order, from 0 keys to all; p50 to max, and the curve."""
    count, space = stage.options.keys, stage.space
    budget, whole, cost = Budget(count, seconds), Histogram(), clock_cost_ns()
    generator, curve = stage.generator(700), []
    with stage.scratch("grow") as engine, quiet_collector():
        part, part_start = Histogram(), Budget(count, seconds)
        engine.before_writes()
        while budget.done < count and budget.spent_ns < budget.nanoseconds:
            size = min(_CHUNK, count - budget.done, max(100, count // _STEPS))
            numbers = space.order.at(np.arange(budget.done, budget.done + size))
            measured = without_clock(time_each(engine.put, space.pairs(numbers)), cost)
            for histogram in (whole, part):
                histogram.add(measured)
            budget.add(size, sum(measured))
            part_start.add(size, sum(measured))
            if part_start.done >= count // _STEPS or budget.done == count:
                engine.refresh()
                probes = space.keys(
                    space.order.at(generator.integers(0, budget.done, _GETS, dtype=np.uint64))
                )
                curve.append(
                    {
                        "keys": budget.done,
                        "put_ns": part_start.sample().ns_per_operation,
                        "put_p999_ns": part.percentile(99.9),
                        "put_max_ns": part.max_ns,
                        "get_ns": time_calls(engine.get, probes) / _GETS,
                    }
                )
                engine.before_writes()
                part, part_start = Histogram(), Budget(count, seconds)
    sample = budget.sample()
    sample.latencies_ns = whole.summary()
    sample.figures["curve"] = curve
    return sample
