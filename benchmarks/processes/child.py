"""A process that puts and gets beside others, as it is told line by line.

Invariants:
* Orders and answers are lines of JSON; what an engine raises is an answer, never the end.
* All that a timed loop needs is made before it.  Then the process says so, and is told when to
  begin, by the monotonic clock, which all processes share.
* What is put and got lies in shuffled order, which favors no kind of index.
* One process can open any engine, so that no start of an interpreter lies between two engines.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns, thread_time_ns
from typing import Any

import numpy as np

from benchmarks.engines import ENGINES
from benchmarks.engines.base import Engine, Pair
from benchmarks.keyspace import KeySpace
from benchmarks.timing import Histogram, quiet_collector

CHUNK = 16  # calls between two looks at the clock; the first of them is timed by itself
BATCH_PAIRS = 1000
_PROBES = 20_000


class Sharer:
    """One of the processes on a store."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.loaded: int = task["loaded"]
        self.space = KeySpace(task["numbers"], value_bytes=task["value_bytes"])
        self._generator = np.random.default_rng([task["seed"], task["index"]])
        self._engine: Engine | None = None
        self._pairs: list[list[Pair]] = []
        self._orders: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "open": self.open,
            "put": self.put,
            "put once": self.put_once,
            "get": self.get,
            "alone": self.alone,
            "check": self.check,
            "close": self.close,
        }

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked; an error is an answer."""
        try:
            return self._orders[order["do"]](order)
        except Exception as error:  # noqa: BLE001 - what an engine raises is a result
            text = str(error).splitlines() or [""]
            return {"error": f"{type(error).__name__}: {text[0]}"}

    @property
    def engine(self) -> Engine:
        """The open store."""
        assert self._engine is not None, "nothing is open"
        return self._engine

    def open(self, order: dict[str, Any]) -> dict[str, Any]:
        """Open a store, load it if asked, and make what will be put."""
        kind = ENGINES[order["engine"]]
        self._engine = kind(Path(order["path"]), order["settings"], order["durability"])
        if order["load"]:
            self.engine.before_writes()
            for start in range(0, self.loaded, BATCH_PAIRS):
                end = min(start + BATCH_PAIRS, self.loaded)
                self.engine.load(self._pairs_at(start, end))
        first, count = order["first"], order["count"]
        pairs = self._pairs_at(first, first + count)
        self._pairs = [pairs[at : at + CHUNK] for at in range(0, count, CHUNK)]
        return {}

    def put(self, order: dict[str, Any]) -> dict[str, Any]:
        """Put own pairs, in turn, until the time is up; begin again if there are no more."""
        engine, chunks = self.engine, self._pairs
        engine.before_writes()
        put = engine.put
        histogram, taken = Histogram(), list[int]()
        ns_each = 1e9 / order["per_second"] if order.get("per_second") else 0.0
        done = at = now = 0
        with quiet_collector():
            start = _start()
            end = start + int(order["seconds"] * 1e9)
            while now < end:
                (key, value), *others = chunks[at]
                began = perf_counter_ns()
                put(key, value)
                taken.append(perf_counter_ns() - began)
                for key, value in others:
                    put(key, value)
                done += len(others) + 1
                at = (at + 1) % len(chunks)
                now = perf_counter_ns()
                if ns_each and start + done * ns_each > now:
                    time.sleep((start + done * ns_each - now) / 1e9)
        histogram.add(taken)
        last = chunks[at - 1][-1][0] if done else b""
        return {
            "operations": done,
            "ended_ns": now,
            "latencies_ns": histogram.summary(),
            "last": last.hex(),
        }

    def put_once(self, _order: dict[str, Any]) -> dict[str, Any]:
        """Put a pair; say when that was acknowledged."""
        key, value = self._pairs[0][0]
        self.engine.put(key, value)
        return {"ended_ns": perf_counter_ns()}

    def get(self, order: dict[str, Any]) -> dict[str, Any]:
        """Get loaded keys at random until the time is up, each as new as can be."""
        self.engine.refresh()
        get = self.engine.fresh_get()
        keys = self._probes(_PROBES)
        chunks = [keys[at : at + CHUNK] for at in range(0, len(keys), CHUNK)]
        histogram, taken = Histogram(), list[int]()
        done = at = now = 0
        with quiet_collector():
            start = _start()
            end = start + int(order["seconds"] * 1e9)
            cpu = thread_time_ns()
            while now < end:
                key, *others = chunks[at]
                began = perf_counter_ns()
                get(key)
                taken.append(perf_counter_ns() - began)
                for key in others:
                    get(key)
                done += len(others) + 1
                at = (at + 1) % len(chunks)
                now = perf_counter_ns()
            cpu = thread_time_ns() - cpu
        histogram.add(taken)
        missing = sum(get(key) is None for key in keys[:100])
        return {
            "operations": done,
            "ended_ns": now,
            "cpu_ns": cpu,
            "missing": missing,
            "latencies_ns": histogram.summary(),
        }

    def alone(self, order: dict[str, Any]) -> dict[str, Any]:
        """Put, batch and get a number of times: nanoseconds of one, with the loop around it."""
        engine, count, first = self.engine, order["operations"], order["first"]
        pairs = self._pairs_at(first, first + count)
        batches = self._pairs_at(first + count, first + 2 * count)
        keys = self._probes(count)
        seconds = order["seconds"]
        with quiet_collector():
            engine.before_writes()
            put = _limited(lambda part: _calls(engine.put, part), pairs, seconds)
            load = _limited(engine.load, batches, seconds)
            engine.refresh()
            get = engine.fresh_get()
            found = _limited(lambda part: _calls(get, part), [(key,) for key in keys], seconds)
        return {"put": put, "get": found, "batch": load}

    def check(self, order: dict[str, Any]) -> dict[str, Any]:
        """Say which of these keys this process does not see."""
        self.engine.refresh()
        get = self.engine.fresh_get()
        return {"missing": [key for key in order["keys"] if get(bytes.fromhex(key)) is None]}

    def close(self, _order: dict[str, Any]) -> dict[str, Any]:
        """Close the store."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        return {}

    def _pairs_at(self, start: int, end: int) -> list[Pair]:
        return self.space.pairs(self.space.order.at(np.arange(start, end)))

    def _probes(self, count: int) -> list[bytes]:
        positions = self._generator.integers(0, self.loaded, count)
        return self.space.keys(self.space.order.at(positions))


def _start() -> int:
    """Say that all is ready; wait until the moment to begin, and return it."""
    print(json.dumps({"ready": True}), flush=True)
    start_ns: int = json.loads(sys.stdin.readline())["start_ns"]
    time.sleep(max(0, start_ns - perf_counter_ns()) / 1e9)
    return start_ns


def _calls(call: Callable[..., object], arguments: list[Any]) -> None:
    for one in arguments:
        call(*one)


def _limited(
    do: Callable[[list[Any]], object], arguments: list[Any], seconds: float
) -> dict[str, float]:
    """Return the nanoseconds of one of these, by the clock and of the CPU; end early after a time.

    They are done in parts of a thousand.  The median part counts, and the CPU's time of all but the
    first tenth, which pays for pages that are touched for the first time.
    """
    wall: list[float] = []
    done, warm = 0, len(arguments) // 10
    do(arguments[:warm])
    cpu, deadline = thread_time_ns(), perf_counter_ns() + seconds * 1e9
    for at in range(warm, len(arguments), BATCH_PAIRS):
        part = arguments[at : at + BATCH_PAIRS]
        started = perf_counter_ns()
        do(part)
        ended = perf_counter_ns()
        wall.append((ended - started) / len(part))
        done += len(part)
        if ended > deadline:
            break
    cpu = thread_time_ns() - cpu
    return {"ns": median(wall), "cpu_ns": cpu / max(done, 1)}


def main() -> None:
    """Answer orders until there are no more."""
    task = json.loads(sys.argv[1])
    if task["beside"]:  # another kvengine than that of this folder
        sys.path.insert(0, task["beside"])
    sharer = Sharer(task)
    for line in sys.stdin:
        print(json.dumps(sharer.answer(json.loads(line))), flush=True)
    sharer.close({})


if __name__ == "__main__":
    main()
