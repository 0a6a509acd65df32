"""``python -m benchmarks edges``: edges compared with a plain cache with a TTL.

Invariants:

* In the simulation both get the same reads and writes, of one seed; the plain cache keeps each
  value for 60 seconds and knows nothing of changes.
* What is real is measured in turns, the least of all repeats, without the cost of the loop.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import quiet_collector
from kvengine import CachedStore, Database, Edge, Store
from kvengine.testing import World
from kvengine.testing.world.workload import Zipf

TTL_S = 60.0
CALLS = 100_000


class Event(NamedTuple):
    """A read or a write of one key."""

    moment: float
    place: int
    key: int
    is_write: bool


def events(seconds: float, reads_per_s: float, writes_per_s: float, seed: int, keys: int) -> Any:
    """Return reads and writes of popular keys at 60 places, in the order of time."""
    chance = random.Random(seed)
    drawn, places, found = Zipf(keys, 0.9, chance), Zipf(60, 0.5, chance), []
    for rate, is_write in ((reads_per_s, False), (writes_per_s, True)):
        moment = chance.expovariate(rate)
        while moment < seconds:
            found.append(Event(moment, places.draw(), drawn.draw(), is_write))
            moment += chance.expovariate(rate)
    return sorted(found)


def plain(todo: list[Event], keys: int) -> dict[str, float]:
    """Return how a cache with a time to live of 60 seconds at each place does."""
    held: list[dict[int, tuple[int, float]]] = [{} for _ in range(60)]
    versions, changed = [0] * keys, [0.0] * keys
    reads = requests = stale = 0
    behind = []
    for moment, place, key, is_write in todo:
        if is_write:
            versions[key] += 1
            changed[key] = moment
            continue
        reads += 1
        version, fetched = held[place].get(key, (0, -TTL_S))
        if moment - fetched >= TTL_S:
            requests += 1
            held[place][key] = versions[key], moment
        elif version != versions[key]:
            stale += 1
            behind.append(moment - changed[key])
    return {
        "reads": reads,
        "primary reads a read": requests / reads,
        "stale reads": stale / reads,
        "stale by, p50 (s)": float(np.percentile(behind, 50)) if behind else 0.0,
        "stale by, longest (s)": max(behind, default=0.0),
    }


def located(todo: list[Event], keys: int, regions: int, seed: int) -> dict[str, float]:
    """Return how 60 edges of a world do with the same reads and writes."""
    world = World(seed=seed, edges=60, regions=regions, keys=keys)
    began = world.now
    for number, (moment, place, key, is_write) in enumerate(todo):
        name, value = b"key-%d" % key, b"%d" % number
        world.run(began + moment - world.now)
        if is_write:
            world.start_write("primary", name, value)
        else:
            world.start_read(f"edge-{place}", name)
    world.run(5)
    report = world.report()
    assert not report.violations
    return {
        "reads": report.reads,
        "primary reads a read": report.primary_share,
        "stale reads": report.stale_reads / report.reads,
        "stale by, p50 (s)": report.staleness.quantile(0.5),
        "stale by, longest (s)": report.staleness.longest,
        "propagation p50 (s)": report.propagation.quantile(0.5),
        "propagation p99 (s)": report.propagation.quantile(0.99),
        "propagation longest (s)": report.propagation.longest,
    }


def least(calls: dict[str, Callable[[], Any]], repeats: int, count: int) -> dict[str, float]:
    """Return nanoseconds of each call, taken in turns."""
    found: dict[str, float] = {}
    for _ in range(repeats):
        for name, call in calls.items():
            with quiet_collector():
                started = time.perf_counter_ns()
                for _number in range(count):
                    pass
                empty = time.perf_counter_ns() - started
                started = time.perf_counter_ns()
                for _number in range(count):
                    call()
                taken = (time.perf_counter_ns() - started - empty) / count
            found[name] = min(found.get(name, taken), taken)
    return found


def speeds(repeats: int, say: Callable[[str], None]) -> dict[str, float]:
    """Return nanoseconds of a read of a cached value."""
    with Database.in_memory() as db, Store.in_memory() as store, Edge(db) as edge:
        here, there = db.namespace("n"), edge.namespace("n")
        here.put("key", "v" * 100)
        store.put(b"small", b"v" * 100)
        store.put(b"large", b"v" * (1 << 20))
        cached = CachedStore(store)
        calls: dict[str, Callable[[], Any]] = {
            "Edge, namespace.get": lambda: there.get("key"),
            "Database, namespace.get": lambda: here.get("key"),
            "CachedStore.get, 100 B": lambda: cached.get(b"small"),
            "Store.get, 100 B": lambda: store.get(b"small"),
        }
        plain_cache(calls, here, say)
        found = least(calls, repeats, CALLS)
        large: dict[str, Callable[[], Any]] = {
            "CachedStore.get, 1 MiB": lambda: cached.get(b"large"),
            "Store.get, 1 MiB": lambda: store.get(b"large"),
        }
        return found | least(large, repeats, 1000)


def plain_cache(calls: dict[str, Any], here: Any, say: Callable[[str], None]) -> None:
    """Add what most people would write: a TTLCache and a lock in front of the database."""
    try:
        import cachetools
    except ImportError:
        say("!!! SKIPPED: cachetools is not installed; pip install 'kvengine[bench]'")
        return
    held: Any = cachetools.TTLCache(10_000, TTL_S)
    lock = threading.Lock()

    def read() -> Any:
        with lock:
            found = held.get("key")
            if found is None:
                found = held["key"] = here.get("key")
            return found

    calls["cachetools.TTLCache and a lock"] = read


READER = """
import sys, time, kvengine
with kvengine.open(sys.argv[1], read_only=True) as db, kvengine.Edge(db) as edge:
    kv, last = edge.namespace("n"), "0"
    print("ready", flush=True)
    while last != "end":
        now = kv.get("key")
        if now != last:
            print(time.monotonic_ns(), flush=True)
            last = now
        time.sleep(0)
"""


def propagation(changes: int) -> dict[str, float]:
    """Return milliseconds from a put to the first read of it at an Edge in another process."""
    taken = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Database(Store(folder + "/db", durability="os")) as db,
    ):
        kv = db.namespace("n")
        kv.put("key", "0")
        with subprocess.Popen(
            [sys.executable, "-c", READER, folder + "/db"], stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            for number in [*range(1, changes + 1), "end"]:
                time.sleep(0.005)
                written = time.monotonic_ns()
                kv.put("key", str(number))
                taken.append((int(reader.stdout.readline()) - written) / 1e6)
    return {
        "p50": float(np.percentile(taken, 50)),
        "p99": float(np.percentile(taken, 99)),
        "longest": max(taken),
    }


def measure(seconds: float, repeats: int, say: Callable[[str], None]) -> Any:
    """Return all figures."""
    keys, simulated = 2000, {}
    for writes in (0.2, 2.0, 20.0):
        todo = events(seconds, 500.0, writes, seed=1, keys=keys)
        simulated[f"{writes:g} writes/s"] = {
            "plain 60 s": plain(todo, keys),
            "edges": located(todo, keys, 0, seed=1),
            "with 6 regions": located(todo, keys, 6, seed=1),
        }
        say(f"{writes:g} writes/s simulated")
    return {
        "seconds": seconds,
        "simulated": simulated,
        "ns": speeds(repeats, say),
        "propagation ms": propagation(max(20, 100 * repeats)),
    }


def report(result: Any) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"60 edges, 2,000 keys (Zipf 0.9), 500 reads/s, {result['seconds']:g} simulated s.",
        "",
        "| | reads at the primary | stale reads | stale, p50 | longest | propagation p50 | p99 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for writes, kinds in result["simulated"].items():
        for kind, row in kinds.items():
            spread = [row.get(f"propagation {what} (s)") for what in ("p50", "p99")]
            cells = [
                f"{100 * row['primary reads a read']:.1f} %",
                f"{100 * row['stale reads']:.3f} %",
                f"{row['stale by, p50 (s)']:.2f} s",
                f"{row['stale by, longest (s)']:.2f} s",
                *("" if one is None else f"{1000 * one:.0f} ms" for one in spread),
            ]
            lines.append(f"| {writes}, {kind} | {' | '.join(cells)} |")
    lines += ["", "| a read of a cached value | ns |", "|---|--:|"]
    lines += [f"| {name} | {taken:,.0f} |" for name, taken in result["ns"].items()]
    times = result["propagation ms"]
    lines += [
        "",
        (
            "From a put to the first read of it at an Edge in another process: "
            f"p50 {times['p50']:.2f} ms, p99 {times['p99']:.2f} ms, "
            f"longest {times['longest']:.2f} ms."
        ),
    ]
    return "\n".join(lines)
