"""Workloads that read in key order.

Invariants: the figure is for one item that was returned, whatever the engine needed to find it;
results become lists, as a caller would use them.
"""

from time import perf_counter_ns

from benchmarks.stage import Stage
from benchmarks.timing import Sample, quiet_collector
from benchmarks.workloads.base import consume, measure_calls

SEEK_ITEMS = 10


def readseq(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """All pairs in key order, with values."""
    engine = stage.main()
    with quiet_collector():
        started = perf_counter_ns()
        deadline = started + int(seconds * 1e9)
        count = consume(engine.items(), stage.loaded, deadline, perf_counter_ns)
        return Sample(count, perf_counter_ns() - started)


def keys(stage: Stage, repeat: int, seconds: float) -> Sample:
    """``keys(prefix)``: some thousands of keys without values, for random prefixes."""
    engine, generator = stage.main(), stage.generator(500 + repeat)
    count, spent, calls = 0, 0, 0
    with quiet_collector():
        while spent < seconds * 1e9 and count < stage.loaded:
            (prefix,) = stage.space.prefixes(stage.random_stored(generator, 1))
            started = perf_counter_ns()
            found = list(engine.keys(prefix))
            spent += perf_counter_ns() - started
            count += len(found)
            calls += 1
    return Sample(count, spent, figures={"calls": calls})


def seekrandom(stage: Stage, repeat: int, seconds: float) -> Sample:
    """From a random stored key, the next ten pairs; a figure a seek."""
    engine, generator = stage.main(), stage.generator(600 + repeat)
    read = engine.range
    return measure_calls(
        lambda start: read(start, SEEK_ITEMS),
        lambda size: stage.space.keys(stage.random_stored(generator, size)),
        max(1, stage.loaded // SEEK_ITEMS),
        seconds,
    )
