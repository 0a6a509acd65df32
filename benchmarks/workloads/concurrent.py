"""Workloads with several threads or processes.

Invariants: the writer beside a reader is limited to 2 MB/s as in db_bench, so that the reader's
rate is comparable between engines; every thread that was started has ended before the figure is
given.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns

import numpy as np

from benchmarks.child import Child
from benchmarks.engines.base import Durability, Engine
from benchmarks.stage import Stage
from benchmarks.timing import Sample, quiet_collector, time_calls
from benchmarks.workloads.base import keys_of, latencies

WRITE_BYTES_PER_S = 2_000_000
THREADS = (1, 2, 4, 8, 16)
_READS = 500
_PUTS_EACH = 4000  # at most, for each thread


class LimitedWriter:
    """Overwrites stored keys at a fixed rate until it is stopped."""

    def __init__(self, stage: Stage) -> None:
        stage.generation += 1
        self._stage, self._generation = stage, stage.generation
        self._generator = stage.generator(800)
        self._stopped = threading.Event()
        self.done, self.seconds = 0, 0.0

    def run(self, engine: Engine, seconds: float = 3600.0) -> None:
        """Write in bursts of a hundredth of a second."""
        stage, started = self._stage, time.monotonic()
        per_second = WRITE_BYTES_PER_S / stage.pair_bytes
        burst = max(1, int(per_second / 100))
        while not self._stopped.is_set() and time.monotonic() - started < seconds:
            numbers = stage.random_stored(self._generator, burst)
            for key, value in stage.space.pairs(numbers, self._generation):
                engine.put(key, value)
            self.done += burst
            ahead = self.done / per_second - (time.monotonic() - started)
            if ahead > 0:
                self._stopped.wait(ahead)
        self.seconds = time.monotonic() - started

    def stop(self) -> None:
        """End ``run`` soon."""
        self._stopped.set()

    def figures(self) -> dict[str, float]:
        """How fast it really wrote."""
        return {"writes": self.done, "writes_per_s": self.done / max(self.seconds, 1e-9)}


def readwhilewriting(stage: Stage, repeat: int, seconds: float) -> Sample:
    """Uniform gets while a thread of the same process overwrites at 2 MB/s."""
    reader, writer = stage.main(), LimitedWriter(stage)
    thread = threading.Thread(target=writer.run, args=(reader.for_thread(),))
    generator = stage.generator(900 + repeat)
    keys = keys_of(stage, lambda size: stage.random_stored(generator, size))
    spent, done = 0, 0
    with quiet_collector():
        thread.start()
        try:
            while spent < seconds * 1e9:
                probes = keys(_READS)
                reader.refresh()
                spent += time_calls(reader.get, probes)
                done += _READS
            sampled = latencies(reader.get, [(key,) for key in keys(_READS)])
        finally:
            writer.stop()
            thread.join()
    return Sample(done, spent, sampled, writer.figures())


def readwhilewriting_process(stage: Stage, repeat: int, seconds: float) -> Sample:
    """Uniform gets in another process that opened the store for reading, beside the same writer."""
    engine, writer = stage.main(), LimitedWriter(stage)
    order = {"repeat": repeat, "seconds": seconds, "loaded": stage.loaded}
    with Child.of(stage, "read", order) as child:
        child.expect("ready")
        engine.before_writes()
        child.send("go")
        writer.run(engine, seconds + 0.2)
        answer = json.loads(child.line())
    sample = Sample(answer["operations"], answer["nanoseconds"], answer["latencies_ns"])
    sample.figures.update(writer.figures(), missing=answer["missing"])
    return sample


def groupcommit(stage: Stage, _repeat: int, seconds: float) -> Sample:
    """Durable puts from 1, 2, 4, 8 and 16 threads at once; the figure is that of 16 threads."""
    rates: dict[str, float] = {}
    durability: Durability = "group" if stage.kind.name == "kvengine" else "sync"
    sample = Sample(0, 1)
    for count in THREADS:
        with stage.scratch("groupcommit", durability) as engine:
            sample = _puts_from_threads(stage, engine, count, seconds / len(THREADS))
        rates[str(count)] = sample.operations / sample.nanoseconds * 1e9
    sample.figures["puts_per_s_by_threads"] = rates
    sample.figures["speedup_of_16"] = rates["16"] / max(rates["1"], 1e-9)
    return sample


def _puts_from_threads(stage: Stage, engine: Engine, count: int, seconds: float) -> Sample:
    numbers = np.arange(count * _PUTS_EACH)
    pairs = list(zip(_group_keys(len(numbers)), stage.space.values(numbers), strict=True))
    start = threading.Barrier(count + 1)

    def put_own(index: int) -> int:
        own, put, done = pairs[index::count], engine.put, 0
        start.wait()
        deadline = perf_counter_ns() + int(seconds * 1e9)
        for done, (key, value) in enumerate(own, 1):  # noqa: B007 - counts what was done
            put(key, value)
            if perf_counter_ns() > deadline:
                break
        return done

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(put_own, index) for index in range(count)]
        start.wait()
        started = perf_counter_ns()
        done = sum(future.result() for future in running)
        return Sample(done, perf_counter_ns() - started)


def _group_keys(count: int) -> list[bytes]:
    return [b"g%015d" % number for number in range(count)]
