"""``python -m benchmarks namespace``: what the Workers KV layer costs above the store.

Invariants:
* The store and the namespace read the same records, in turns, in one process.
* The page of the peer has the same content as ours, which is checked, and its records hold the
  same: expiry, metadata, value.
* An export is timed until its bytes are on the disk, and so is the plain file beside it.
"""

from __future__ import annotations

import json
import os
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

from benchmarks.driver import human_ns
from benchmarks.timing import quiet_collector
from kvengine import Database, KeyInfo, Namespace
from kvengine import open as open_database

HOT_KEYS = 1000
READS = 50_000
PAGE_KEYS = 1000
HEAD = struct.Struct("<dH")  # of a record in the peer: expiry, size of the metadata
Timer = Callable[[], float]  # nanoseconds for one operation


def measure(keys: int, repeats: int, directory: str | None, say: Callable[[str], None]) -> Any:
    """Return figures in nanoseconds, and ratios."""
    with (
        tempfile.TemporaryDirectory(dir=directory) as folder,
        open_database(Path(folder, "db"), durability="os") as db,
    ):
        say(f"loading {keys:,} keys")
        load(db, keys)
        db.store.checkpoint()
        timers = {**read_timers(db, keys), **page_timers(db, Path(folder))}
        times = in_turns(timers, repeats, say)
        times |= export_times(db, Path(folder), min(repeats, 3), say)
    return {"keys": keys, "repeats": repeats, "ns": times, "ratios": ratios(times)}


def key_name(number: int) -> str:
    """Return the key with a number, a fresh str."""
    return f"user/{number:011d}"


def record(number: int) -> tuple[dict[str, Any], int | None]:
    """Return the metadata and the expiration of a key: every fourth has one."""
    metadata = {"type": "text/html", "etag": f"{number:08x}", "size": number % 9000}
    return metadata, 4_000_000_000 if number % 4 == 0 else None


def load(db: Database, keys: int) -> None:
    """Fill one namespace with plain values, and one with metadata for the pages."""
    plain, rich = db.namespace("plain"), db.namespace("rich")
    numbers = list(range(keys))
    random.Random(1).shuffle(numbers)
    values = random.Random(2).randbytes(1 << 20).hex()
    with db.store.batch() as batch:
        for number in numbers:
            start = number * 31 % (len(values) - 100)
            batch.put(plain._name(key_name(number)), values[start : start + 100].encode())
            if len(batch) == 4096:
                batch.commit()
    for number in range(20 * PAGE_KEYS):
        metadata, expiration = record(number)
        rich.put(key_name(number), values[:100], metadata=metadata, expiration=expiration)


# -- reads


def read_timers(db: Database, keys: int) -> dict[str, Timer]:
    """Reads of the store and of the namespace, of a few keys and of all."""
    kv, timers = db.namespace("plain"), {}
    for where, count in (("hot", min(HOT_KEYS, keys)), ("uniform", keys)):
        for what in ("store.get", "get bytes", "get text", "get_with_metadata"):
            timers[f"{what}, {where}"] = reader(kv, what, count)
    return timers


def reader(kv: Namespace, what: str, count: int) -> Timer:
    """Return what times one read; the keys are fresh objects in a new order each time."""
    order = random.Random(3)

    def run() -> float:
        names = [key_name(order.randrange(count)) for _ in range(READS)]
        raw = [kv._name(name) for name in names]
        get, store_get, with_metadata = kv.get, kv._store.get, kv.get_with_metadata
        with quiet_collector():
            empty = perf_counter_ns()
            for _name in names:
                pass
            started = perf_counter_ns()
            if what == "store.get":
                for key in raw:
                    store_get(key)
            elif what == "get bytes":
                for name in names:
                    get(name, type="bytes")
            elif what == "get text":
                for name in names:
                    get(name, type="text")
            else:
                for name in names:
                    with_metadata(name)
            return (perf_counter_ns() - started - (started - empty)) / READS

    return run


# -- pages


def page_timers(db: Database, folder: Path) -> dict[str, Timer]:
    """A page of 1,000 keys with metadata, ours and one from a cursor of lmdb."""
    kv = db.namespace("rich")
    timers = {"list page": page_timer(lambda after: kv.list(start_after=after).keys)}
    try:
        import lmdb
    except ImportError:
        return timers
    environment: Any = lmdb.open(str(folder / "lmdb"), map_size=1 << 34, sync=False)
    with environment.begin(write=True) as transaction:
        for number in range(20 * PAGE_KEYS):
            metadata, expiration = record(number)
            text = json.dumps(metadata).encode()
            head = HEAD.pack(expiration or 0, len(text))
            transaction.put(key_name(number).encode(), head + text + bytes(100))

    def page(after: str) -> list[KeyInfo]:
        with environment.begin() as transaction:
            cursor = transaction.cursor()
            cursor.set_range(after.encode() + b"\0")
            return list(islice(peer_infos(cursor), PAGE_KEYS))

    assert page(key_name(500)) == kv.list(start_after=key_name(500)).keys
    return {**timers, "list page, lmdb": page_timer(page)}


def peer_infos(cursor: Any) -> Iterator[KeyInfo]:
    """Yield what a list shows, from records of the peer."""
    for key, data in cursor.iternext():
        expiration, size = HEAD.unpack_from(data)
        metadata = json.loads(data[HEAD.size : HEAD.size + size]) if size else None
        yield KeyInfo(key.decode(), int(expiration) if expiration else None, metadata)


def page_timer(page: Callable[[str], list[KeyInfo]]) -> Timer:
    """Return what times one page."""
    order = random.Random(4)

    def run() -> float:
        starts = [key_name(order.randrange(18 * PAGE_KEYS)) for _ in range(50)]
        with quiet_collector():
            started = perf_counter_ns()
            for after in starts:
                page(after)
            return (perf_counter_ns() - started) / len(starts)

    return run


# -- exports


def export_times(
    db: Database, folder: Path, repeats: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Time an export to the disk, and the same bytes written as a plain file."""
    kv, target, plain = db.namespace("plain"), folder / "export.ndjson", folder / "plain"
    found: dict[str, list[float]] = {"export": [], "export, plain file": []}
    for _ in range(repeats):
        started = perf_counter_ns()
        kv.export_file(target)  # which syncs
        found["export"].append(perf_counter_ns() - started)
        data = target.read_bytes()
        started = perf_counter_ns()
        with open(plain, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        found["export, plain file"].append(perf_counter_ns() - started)
    size = target.stat().st_size
    say(f"export: {size / 1e6:.0f} MB, {size / median(found['export']) * 1e3:.0f} MB/s")
    return {name: median(times) for name, times in found.items()}


# -- the whole


def in_turns(
    timers: dict[str, Timer], repeats: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Return the median of each, measured in turns so that noise hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for turn in range(repeats + 1):
        for name, run in timers.items():
            taken = run()
            if turn:  # the first one warms up
                times[name].append(taken)
        say(f"repeat {turn} of {repeats}")
    return {name: median(taken) for name, taken in times.items()}


GOALS = (  # what, beside what, the goal for the ratio, and whether it should be below
    ("get bytes, hot", "store.get, hot", 1.5, True),
    ("get text, hot", "store.get, hot", 1.8, True),
    ("get bytes, uniform", "store.get, uniform", 1.5, True),
    ("get text, uniform", "store.get, uniform", 1.8, True),
    ("list page, lmdb", "list page", 2.0, False),
    ("export", "export, plain file", 1.5, True),  # "limited by the disk"
)


def ratios(times: dict[str, float]) -> list[dict[str, Any]]:
    """Return each goal with the ratio that was reached."""
    return [
        {
            "what": f"{what} / {beside}",
            "ratio": times[what] / times[beside],
            "goal": f"{'at most' if below else 'at least'} {goal}",
            "reached": (times[what] / times[beside] <= goal) == below,
        }
        for what, beside, goal, below in GOALS
        if what in times and beside in times
    ]


def report(result: Any) -> str:
    """Return the figures as Markdown."""
    lines = [f"{result['keys']:,} keys, {result['repeats']} repeats, medians.", ""]
    lines += ["| what | time |", "|---|--:|"]
    lines += [f"| {name} | {human_ns(taken)} |" for name, taken in result["ns"].items()]
    lines += ["", "| ratio | reached | goal | |", "|---|--:|--:|---|"]
    lines += [
        f"| {row['what']} | {row['ratio']:.2f} | {row['goal']} |"
        f" {'' if row['reached'] else 'missed'} |"
        for row in result["ratios"]
    ]
    return "\n".join(lines)
