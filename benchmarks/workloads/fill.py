"""Workloads that write: loads, single puts, overwrites, deletes.

Invariants: each write carries a value that the key did not have before; class "os" unless the name
says sync.
"""

import numpy as np

from benchmarks import footprint
from benchmarks.engines.base import DURABLE
from benchmarks.stage import Stage, load
from benchmarks.timing import Sample, quiet_collector, time_calls
from benchmarks.workloads.base import (
    Sequential,
    measure_each,
    measure_puts,
)


def fillseq(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """Batches of 1000 in key order into an empty store."""
    with stage.scratch("fillseq") as engine:
        engine.before_writes()
        return load(engine, stage.space, stage.options.keys, seconds)


def fillrandom(stage: Stage, _repeat: int, _seconds: float) -> Sample:
    """Batches of 1000 in shuffled order; this loads the main store, and weighs it."""
    stage.main()
    assert stage.load_sample is not None
    return stage.load_sample


def fillsync(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """Single puts, each on the disk before it returns."""
    with stage.scratch("fillsync", "sync") as engine:
        space = stage.space
        steps = Sequential(lambda low, high: space.pairs(space.order.at(np.arange(low, high))))
        sample, _histogram = measure_each(engine.put, steps, min(1000, stage.options.keys), seconds)
        return sample


def put(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """Single puts of new keys in shuffled order into an empty store."""
    with stage.scratch("put") as engine:
        space = stage.space
        engine.before_writes()
        pairs = Sequential(lambda low, high: space.pairs(space.order.at(np.arange(low, high))))
        return measure_puts(engine.put, pairs, stage.options.keys, seconds)


def overwrite(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """Single puts over stored keys, uniform; with space and write amplification afterwards."""
    engine = stage.main()
    engine.settle()
    engine.before_writes()
    stage.generation += 1
    generator, generation = stage.generator(20), stage.generation
    writes = footprint.DeviceWrites(stage.folder)
    sample = measure_puts(
        engine.put,
        lambda size: stage.space.pairs(stage.random_stored(generator, size), generation),
        stage.loaded,
        seconds,
    )
    if DURABLE not in stage.kind.abilities:
        return sample
    engine.settle()
    written = writes.stop()
    sample.figures.update(written)
    user_bytes = sample.operations * stage.pair_bytes
    sample.figures["user_bytes"] = user_bytes
    if written["device_bytes"] is not None:
        sample.figures["write_amplification"] = written["device_bytes"] / max(user_bytes, 1)
    disk = footprint.disk_bytes(stage.main_path)
    sample.figures["disk_bytes"] = disk
    sample.figures["disk_per_user_byte"] = disk / max(stage.loaded * stage.pair_bytes, 1)
    sample.figures.update(engine.figures())
    return sample


def deleterandom(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """Deletes of stored keys in shuffled order, a tenth of them; the main store ends here."""
    engine, space, loaded = stage.main(), stage.space, stage.loaded
    count = max(1, loaded // 10)
    engine.before_writes()
    with quiet_collector():
        done, spent, keys = 0, 0, list[bytes]()
        while done < count and spent < seconds * 1e9:
            size = min(500, count - done)
            keys = space.keys(space.order.at(np.arange(done, done + size)))
            spent += time_calls(engine.delete, keys)
            done += size
    engine.refresh()
    left = [key for key in keys if engine.get(key) is not None]
    stage.drop_main()
    return Sample(done, spent, figures={"still_there": len(left)})
