"""From a write to those who wait for it in another process.

Invariants: the time is from just before a put of this process to the first statement that the other
one comes to, in each way that there is to wait; it has heard of every put before the next one.
"""

import itertools
import json
import threading
import time
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks.child import Child, ChildFailed
from benchmarks.driver import human_ns
from benchmarks.engines.base import peer_module
from benchmarks.processes.crew import PATIENCE_S
from benchmarks.processes.settings import Say, Settings
from benchmarks.report.lookup import OURS
from benchmarks.timing import Histogram

WAYS = ("wait", "tail", "watch", "consumer", "asyncio watch", "edge")
NAMESPACE, KEY = "wakes", "key"
_PAUSE_S = 0.002  # between two puts


def wake_ups(settings: Settings, folder: Path, say: Say) -> dict[str, Any]:
    """Percentiles of each way, in nanoseconds."""
    kvengine = peer_module(OURS, OURS)
    path, numbers = folder / "wakes", itertools.count(1)
    rows: dict[str, dict[str, float]] = {}
    errors: dict[str, str] = {}
    with kvengine.open(path, durability="os") as db:
        kv = db.namespace(NAMESPACE)
        kv.put(KEY, "0")
        for way in WAYS:
            try:
                rows[way] = _heard(kv, {"path": str(path), "way": way}, numbers, settings.wakes)
            except ChildFailed as error:
                errors[way] = (str(error).strip().splitlines() or ["it ended"])[-1]
                say(f"from a write to {way}: {errors[way]}")
            else:
                say(f"from a write to {way}: {human_ns(rows[way]['p50'])}")
    return {"ns": rows, "errors": errors}


def _heard(kv: Any, task: dict[str, Any], numbers: Any, count: int) -> dict[str, float]:
    """Put so many numbers, each when the one before was heard of."""
    histogram = Histogram()
    with Child("benchmarks.processes.hearing", task | {"count": count}) as child:
        hung = threading.Timer(PATIENCE_S + count * 0.1, child.process.kill)
        hung.start()
        try:
            child.expect("ready")
            for number in itertools.islice(numbers, count):
                time.sleep(_PAUSE_S)
                written = perf_counter_ns()
                kv.put(KEY, str(number))
                heard_ns, heard = json.loads(child.line())
                if heard != number:
                    raise ChildFailed(f"it has heard of {heard}, not of {number}")
                histogram.add([heard_ns - written])
        finally:
            hung.cancel()
            if histogram.total < count:
                child.process.kill()
    return histogram.summary()
