"""Workloads that read single keys or lists of keys.

Invariants: probe keys are fresh objects made outside of the timed loop; every probe of "readrandom"
and "readhot" is there, no probe of "readmissing" is.
"""

import numpy as np

from benchmarks.distributions import Zipfian
from benchmarks.stage import Stage
from benchmarks.timing import Sample
from benchmarks.workloads.base import keys_of, measure_calls

MANY = 100


def readrandom(stage: Stage, repeat: int, seconds: float) -> Sample:
    """``get`` of stored keys, uniform."""
    engine, generator = stage.main(), stage.generator(100 + repeat)
    keys = keys_of(stage, lambda size: stage.random_stored(generator, size))
    return measure_calls(engine.get, keys, stage.loaded, seconds)


def readhot(stage: Stage, repeat: int, seconds: float) -> Sample:
    """``get`` of stored keys, Zipf 0.99 over the keys that exist, hot ones scattered."""
    engine, generator = stage.main(), stage.generator(200 + repeat)
    ranks = Zipfian(stage.loaded)
    keys = keys_of(stage, lambda size: stage.stored(ranks.draw(generator, size).astype(np.uint64)))
    return measure_calls(engine.get, keys, stage.loaded, seconds)


def readmissing(stage: Stage, repeat: int, seconds: float) -> Sample:
    """``get`` of keys that are not there, each beside one that is."""
    engine, generator = stage.main(), stage.generator(300 + repeat)
    return measure_calls(
        engine.get,
        lambda size: stage.space.absent_keys(stage.random_stored(generator, size)),
        stage.loaded,
        seconds,
    )


def multireadrandom(stage: Stage, repeat: int, seconds: float) -> Sample:
    """``get_many`` of 100 stored keys, uniform; a figure a key."""
    engine, generator = stage.main(), stage.generator(400 + repeat)

    def lists(size: int) -> list[list[bytes]]:
        keys = stage.space.keys(stage.random_stored(generator, size * MANY))
        return [keys[low : low + MANY] for low in range(0, len(keys), MANY)]

    sample = measure_calls(engine.get_many, lists, max(1, stage.loaded // MANY), seconds)
    found = engine.get_many(lists(1)[0])
    sample.figures["found_of_100"] = sum(value is not None for value in found)
    sample.figures["calls"] = sample.operations
    sample.operations *= MANY
    return sample
