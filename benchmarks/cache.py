"""``python -m benchmarks cache``: nanoseconds of hits, misses, overwrites and inserts.

Invariants:
* Keys are str that live elsewhere and know their hash; all caches get the same ones in turns.
* Ours check lifetimes (ttl=3600); peers have none.
* The empty loop is taken away; figures are the least of all repeats.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks import caches
from benchmarks.timing import quiet_collector
from kvengine import Cache

ENTRIES = 10_000
CALLS = 100_000
FOOTPRINTS = (10_000, 100_000, 1_000_000)  # entries
GOALS = {"hit": 50, "miss": 40, "overwrite": 60, "insert": 150}


def timed(call: Callable[..., Any], keys: Sequence[str], *value: Any) -> float:
    """Return nanoseconds of one call."""
    with quiet_collector():
        empty = perf_counter_ns()
        for _key in keys:
            pass
        started = perf_counter_ns()
        if value:
            one = value[0]
            for key in keys:
                call(key, one)
        else:
            for key in keys:
                call(key)
        return (perf_counter_ns() - started - (started - empty)) / len(keys)


def turn(access: caches.Access, keys: list[str], hot: list[str], number: int) -> dict[str, float]:
    """Measure all operations of one cache once."""
    get, put = access
    for key in keys:
        put(key, 1)
    absent = [f"absent{number}{i}" for i in range(CALLS)]
    fresh = [f"fresh{number}{i}" for i in range(CALLS)]
    _ = [hash(key) for key in (*absent, *fresh)]
    return {
        "hit": timed(get, hot),
        "miss": timed(get, absent),
        "overwrite": timed(put, hot, 1),
        "insert": timed(put, fresh, 1),
    }


def measure(repeats: int, say: Callable[[str], None]) -> Any:
    """Return nanoseconds by cache and operation, and bytes an entry of ours."""
    chances = 1 / np.arange(1, ENTRIES + 1) ** 0.99
    keys = [f"key{number:08d}" for number in range(ENTRIES)]
    order = np.random.default_rng(1).choice(ENTRIES, CALLS, p=chances / chances.sum())
    hot = [keys[number] for number in order]
    makers: dict[str, Callable[[], caches.Access]] = {
        f"kvengine {policy}": functools.partial(caches.ours, policy, ENTRIES, 3600.0)
        for policy in caches.POLICIES
    }
    for name, make in caches.installed(say).items():
        makers[name] = functools.partial(make, ENTRIES)
    times: dict[str, dict[str, float]] = {}
    for repeat in range(repeats):
        for name, maker in makers.items():
            taken = turn(maker(), keys, hot, repeat)
            best = times.setdefault(name, taken)
            times[name] = {what: min(best[what], taken[what]) for what in taken}
        kept = functools.lru_cache(ENTRIES)(str.upper)
        for key in keys:
            kept(key)
        hit = timed(kept, hot)
        times["functools.lru_cache"] = {
            "hit": min(hit, times.get("functools.lru_cache", {}).get("hit", hit))
        }
        say(f"repeat {repeat + 1} of {repeats}")
    return {"repeats": repeats, "ns": times, "bytes": footprints(), "goals": GOALS}


def footprints() -> dict[str, dict[str, float]]:
    """Return bytes an entry, without keys and values, by policy and number of entries."""
    found: dict[str, dict[str, float]] = {}
    for policy in caches.POLICIES:
        for entries in FOOTPRINTS:
            cache = Cache(entries, ttl=3600.0, policy=policy)
            for number in range(entries + entries // 4):
                cache.set(number, None)
            found.setdefault(policy, {})[f"{entries}"] = cache.memory_usage() / entries
    return found


def report(result: Any) -> str:
    """Return the figures as Markdown."""
    lines = [f"{ENTRIES:,} resident str keys, ns, least of {result['repeats']}.", ""]
    lines += ["| cache | hit | miss | overwrite | insert + evict |", "|---|--:|--:|--:|--:|"]
    for name, row in result["ns"].items():
        cells = [f"{row[what]:.0f}" if what in row else "" for what in GOALS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| goal | {' | '.join(f'{goal}' for goal in GOALS.values())} |")
    lines += ["", "Bytes an entry, with lifetimes; the goal is 64.", ""]
    sizes = [f"{entries:,}" for entries in FOOTPRINTS]
    lines += [f"| policy | {' | '.join(sizes)} |", "|---|" + "--:|" * len(sizes)]
    for policy, row in result["bytes"].items():
        lines.append(f"| {policy} | {' | '.join(f'{size:.1f}' for size in row.values())} |")
    return "\n".join(lines)
