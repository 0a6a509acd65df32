"""Short-lived processes: one that opens, one that writes until it is killed, one that only reads.

Invariants: a child imports everything before it starts its clock; it speaks in lines on stdout.
"""

import json
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.stage import Stage
from benchmarks.timing import quiet_collector, time_calls
from benchmarks.workloads.base import latencies

_REPORT_EVERY = 100  # writes between two acknowledgements of the writing child


def _overwritten(stage: Stage, low: int, high: int) -> Any:
    """Numbers of the keys that the writing child overwrites, in its order."""
    return stage.stored(np.arange(low, high, dtype=np.uint64))


def open_and_get(stage: Stage, task: dict[str, Any]) -> None:
    """Open, get one key, say how long it took and whether the answer was right."""
    written, generation = task["written"], 0
    if written:
        number, generation = _overwritten(stage, written - 1, written), task["generation"]
    else:
        number = stage.random_stored(stage.generator(1000 + task["repeat"]), 1)
    ((key, value),) = stage.space.pairs(number, generation)
    version = stage.kind.version()  # imports the peer
    started = perf_counter_ns()
    engine = stage.open(stage.main_path)
    opened = perf_counter_ns()
    found = engine.get(key)
    ended = perf_counter_ns()
    right = found == value if written else found is not None
    answer = {"open_ns": opened - started, "get_ns": ended - opened, "right": right}
    print(json.dumps({**answer, "version": version}), flush=True)
    engine.close()


def write_until_killed(stage: Stage, task: dict[str, Any]) -> None:
    """Overwrite the stored keys in order, and print how many are acknowledged."""
    engine = stage.open(stage.main_path)
    done = 0
    while done < stage.loaded:
        numbers = _overwritten(stage, done, min(done + 5000, stage.loaded))
        for key, value in stage.space.pairs(numbers, task["generation"]):
            engine.put(key, value)
            done += 1
            if done % _REPORT_EVERY == 0 or done == stage.loaded:
                print(done, flush=True)
    sys.stdin.readline()  # stay alive and unclosed until killed


def read_beside_writer(stage: Stage, task: dict[str, Any]) -> None:
    """Read uniformly for some seconds through a handle that cannot write."""
    engine = stage.kind(stage.main_path, stage.settings, "os", read_only=True)
    generator = stage.generator(900 + task["repeat"])
    print("ready", flush=True)
    sys.stdin.readline()
    done, spent, missing = 0, 0, 0
    with quiet_collector():
        while spent < task["seconds"] * 1e9:
            keys = stage.space.keys(stage.random_stored(generator, 500))
            engine.refresh()
            spent += time_calls(engine.get, keys)
            done += len(keys)
        keys = stage.space.keys(stage.random_stored(generator, 500))
        missing = sum(engine.get(key) is None for key in keys)
        sampled = latencies(engine.get, [(key,) for key in keys])
    answer = {"operations": done, "nanoseconds": spent, "missing": missing}
    print(json.dumps({**answer, "latencies_ns": sampled}), flush=True)
    engine.close()


_ACTIONS = {"open": open_and_get, "write": write_until_killed, "read": read_beside_writer}


def main() -> None:
    """Do what the first argument says."""
    task = json.loads(sys.argv[1])
    options = Options.from_json(task["options"])
    stage = Stage(task["engine"], task["settings"], options, Path(task["folder"]))
    stage.loaded = task["loaded"]
    _ACTIONS[task["action"]](stage, task)


if __name__ == "__main__":
    main()
