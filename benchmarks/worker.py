"""The process of one engine: takes names of workloads on stdin, gives samples on stdout.

Invariants: one process, one engine, one kind of settings, so that memory is the engine's; each
answer is one line of JSON, with either a sample or an error; what a peer prints goes to stderr,
never between the answers.
"""

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

from benchmarks.options import Options
from benchmarks.stage import Stage
from benchmarks.workloads import WORKLOADS


def answer(stage: Stage, name: str, repeat: int) -> dict[str, Any]:
    """Run one repeat of one workload."""
    workload = WORKLOADS[name]
    repeats = workload.repeats or stage.options.repeats
    seconds = stage.options.budget_s * workload.weight / repeats
    started = perf_counter()
    try:
        sample = workload.run(stage, repeat, seconds).as_json()
    except Exception as error:  # noqa: BLE001 - what a peer raises is a result; the others go on
        return {"error": f"{type(error).__name__}: {error}"}
    return {"sample": sample, "wall_s": perf_counter() - started}


def serve(stage: Stage, orders: TextIO, answers: TextIO) -> None:
    """Answer orders until there are no more."""
    for line in orders:
        order = json.loads(line)
        found = answer(stage, order["workload"], order["repeat"])
        print(json.dumps(found), file=answers, flush=True)


def main() -> None:
    """``python -m benchmarks.worker TASK``."""
    task = json.loads(sys.argv[1])
    options = Options.from_json(task["options"])
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stage = Stage(task["engine"], task["settings"], options, Path(task["folder"]))
    try:
        serve(stage, sys.stdin, answers)
    finally:
        stage.close()


if __name__ == "__main__":
    main()
