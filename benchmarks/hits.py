"""``python -m benchmarks hits``: hit ratios on real traces, beside peers and the clairvoyant limit.

Invariants:
* A trace is a gzip file of lines ``key`` or ``key,size``; each access is a get, and a set if it
  misses.  Sizes of a cache are in entries, or in bytes for traces with sizes.
* The limit (Belady's MIN: evict what is needed last) is a bound only without sizes.
* Nothing is tuned by trace: all caches have their defaults.
"""

from __future__ import annotations

import gzip
import heapq
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import caches
from kvengine import Cache

PARTS = (0.01, 0.1, 0.3)  # of distinct keys or bytes, where the README names no capacities
TOYS = re.compile("scan|zigzag|backf")  # the research page leaves them out of its means
LEADS = {"theine": 1.5, "moka-py": 3.0, "lru": 9.0}  # G3, in points


def read_trace(path: Path) -> tuple[list[int], list[int] | None]:
    """Return keys, and sizes if the trace has them."""
    with gzip.open(path, "rt") as file:
        rows = [line.split(",") for line in file.read().split()]
    keys = [int(row[0]) for row in rows]
    return keys, [int(row[1]) for row in rows] if len(rows[0]) > 1 else None


def capacities(folder: Path, name: str, keys: list[int], sizes: list[int] | None) -> list[int]:
    """Return three sizes: those of the folder's README, or parts of what is distinct."""
    readme = folder / "README.md"
    for line in readme.read_text().splitlines() if readme.exists() else ():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith(f"| {name}.csv.gz") and len(cells) > 7:
            return [int(number) for number in cells[7].split(",")]
    distinct = dict(zip(keys, sizes or [1] * len(keys), strict=True))
    return [max(int(part * sum(distinct.values())), 1) for part in PARTS]


def replay(get: Callable[[Any], Any], put: Callable[..., Any], keys: list[int]) -> int:
    """Return the hits of a cache that is filled on misses."""
    hits = 0
    for key in keys:
        if get(key) is None:
            put(key, True)
        else:
            hits += 1
    return hits


def replay_sized(cache: Cache, keys: list[int], sizes: list[int]) -> tuple[int, int]:
    """Return hits, and the bytes of hits."""
    hits = hit_bytes = 0
    for key, size in zip(keys, sizes, strict=True):
        if cache.get(key) is None:
            cache.set(key, True, size)
        else:
            hits, hit_bytes = hits + 1, hit_bytes + size
    return hits, hit_bytes


def limit(keys: list[int], sizes: Iterable[int], capacity: int, by_size: bool = False) -> int:
    """Return the hits of who knows the future: evict what is needed last (or size x distance)."""
    following, soon = [0] * len(keys), dict[int, int]()
    for at in range(len(keys) - 1, -1, -1):
        following[at] = soon.get(keys[at], len(keys) + 1)
        soon[keys[at]] = at
    held: dict[int, tuple[int, int]] = {}
    heap: list[tuple[float, int, int]] = []
    used = hits = 0
    for at, (key, size) in enumerate(zip(keys, sizes, strict=True)):
        if key in held:
            hits += 1
            used -= held.pop(key)[0]
        if following[at] > len(keys) or size > capacity:
            continue
        held[key] = size, following[at]
        used += size
        heapq.heappush(
            heap,
            (-float(following[at] - at * by_size) * (size if by_size else 1), key, following[at]),
        )
        while used > capacity:
            _, other, when = heapq.heappop(heap)
            if other in held and held[other][1] == when:
                used -= held.pop(other)[0]
    return hits


def cell(
    keys: list[int], sizes: list[int] | None, capacity: int, peers: dict[str, Any]
) -> dict[str, float]:
    """Return the hit ratios (%) of one trace at one size."""
    total, found = len(keys), {}
    for policy in caches.POLICIES:
        cache = Cache(capacity, len if sizes else None, policy=policy, seed=1)
        if sizes:
            hits, hit_bytes = replay_sized(cache, keys, sizes)
            found[f"{policy} bytes"] = 100 * hit_bytes / sum(sizes)
        else:
            hits = replay(cache.get, cache.set, keys)
        found[policy] = 100 * hits / total
    if not sizes:
        for name, make in peers.items():
            get, put = make(capacity)
            found[name] = 100 * replay(get, put, keys) / total
    found["limit"] = 100 * limit(keys, sizes or [1] * total, capacity, bool(sizes)) / total
    return found


def measure(folder: Path, traces: list[str], say: Callable[[str], None]) -> Any:
    """Return the ratios of all traces of a folder (or of those that are named)."""
    peers = {  # their LRUs are all alike
        name: make for name, make in caches.installed(say).items() if name in {"moka-py", "theine"}
    }
    rows = []
    for path in sorted(folder.glob("*.csv.gz")):
        name = path.name.partition(".")[0]
        if traces and name not in traces:
            continue
        keys, sizes = read_trace(path)
        for capacity in capacities(folder, name, keys, sizes):
            ratios = cell(keys, sizes, capacity, peers)
            rows.append(
                {"trace": name, "capacity": capacity, "sized": sizes is not None, "hits": ratios}
            )
            say(f"{name} {capacity}: " + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    return {"rows": rows, "summary": summary(rows)}


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Say how the default policy does against the goals of research/cache.md, section 6."""
    real = [row for row in rows if not row["sized"] and not TOYS.search(row["trace"])]
    plain = [row["hits"] for row in real]
    large = [row for row in real if row["capacity"] >= 256]
    lines = []
    if plain:
        gaps = [
            max(v for k, v in hits.items() if k != "limit") - hits["adaptive"] for hits in plain
        ]
        lines.append(f"G1 gap to the best: mean {_mean(gaps):.2f}, worst {max(gaps):.2f} (.75, 3)")
        for name, goal in LEADS.items():
            leads = [hits["adaptive"] - hits[name] for hits in plain if name in hits]
            if leads:
                lines.append(f"G3 lead over {name}: {_mean(leads):.2f} ({goal})")
        below = [hits["limit"] - hits["adaptive"] for hits in plain]
        lines.append(f"G4 distance to MIN: {_mean(below):.2f} (5.0)")
    lost = [
        f"{row['trace']}@{row['capacity']} {row['hits']['adaptive'] - best:+.2f}"
        for row in large
        if (best := max([row["hits"][p] for p in ("lru", "moka-py", "theine") if p in row["hits"]]))
        > row["hits"]["adaptive"] + 0.3
    ]
    lines.append(f"G2 at least the best peer - 0.3: {len(large) - len(lost)} of {len(large)}")
    lines += [f"   lost: {', '.join(lost)}"] if lost else []
    return lines


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def report(result: Any) -> str:
    """Return the ratios as Markdown."""
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["hits"]))
    lines = [f"| trace | capacity | {' | '.join(names)} |", "|---|--:|" + "--:|" * len(names)]
    for row in result["rows"]:
        cells = [f"{row['hits'][name]:.2f}" if name in row["hits"] else "" for name in names]
        lines.append(f"| {row['trace']} | {row['capacity']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"* {line.strip()}" for line in result["summary"])])
