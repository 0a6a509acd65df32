"""``python -m benchmarks log``: reading the log and being woken, beside RocksDB and Redis Streams.

Invariants:

* All hold the same changes: keys of 16 bytes, values of 100.  A reader gets keys and values.
* rocksdict offers no way to read RocksDB's updates since a sequence number, so the nearest thing
  is measured: reading all pairs in the order of keys, which leaves out versions and deletes.
* Redis runs on loopback without any persistence; a peer that is missing is named and left out.
* A wake-up is the time from just before the write to the first statement of the waiting process,
  or thread, on the machine's monotonic clock.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import quiet_collector
from kvengine import Store
from kvengine.replication.local_source import LocalSource

SIZE = 1000  # changes in a batch
PAUSE_S = 0.002  # between two writes that wake somebody

WAITER = """
import sys, time, kvengine
with kvengine.Store(sys.argv[1], read_only=True) as store:
    version = store.version
    print("ready", flush=True)
    for _ in range(int(sys.argv[2])):
        version = store.wait(version)
        print(time.monotonic_ns(), flush=True)
"""
REDIS_WAITER = """
import sys, time, redis
client = redis.Redis(port=int(sys.argv[1]))
print("ready", flush=True)
last = "0"
for _ in range(int(sys.argv[2])):
    ((_, ((last, _),)),) = client.xread({"wake": last}, count=1, block=60_000)
    print(time.monotonic_ns(), flush=True)
"""


def fill(store: Store, count: int) -> None:
    """Write so many changes."""
    for start in range(0, count, SIZE):
        with store.batch() as batch:
            for number in range(start, min(start + SIZE, count)):
                batch.put(b"%016d" % number, b"v" * 100)


def rate(read: Callable[[], int], count: int, repeats: int) -> float:
    """Return changes a second, the best of some repeats."""
    best = 0.0
    for _ in range(repeats):
        with quiet_collector():
            started = time.perf_counter()
            found = read()
            taken = time.perf_counter() - started
        assert found == count, (found, count)
        best = max(best, count / taken)
    return best


def own_rates(folder: Path, count: int, repeats: int) -> dict[str, float]:
    """Return the rates of the ways to read our log."""
    with Store(folder / "kvengine", durability="os") as store:
        fill(store, count)
        source = LocalSource(store)
        return {
            "kvengine store.tail(0)": rate(lambda: sum(1 for _ in store.tail(0)), count, repeats),
            "kvengine consumer.batches(1000)": rate(
                lambda: sum(map(len, store.consumer("bench").batches(SIZE))), count, repeats
            ),
            "kvengine LocalSource.pieces(0)": rate(
                lambda: sum(len(piece.changes) for piece in source.pieces(0)), count, repeats
            ),
            "kvengine, written while it is followed": following(folder / "followed", count),
        }


def following(folder: Path, count: int) -> float:
    """Return changes a second of a thread that follows while another one writes batches."""
    with Store(folder, durability="os") as store:
        writer = threading.Thread(target=fill, args=(store, count))
        started, seen = time.perf_counter(), 0
        writer.start()
        for batch in store.consumer("bench").batches(SIZE, follow=True, timeout=30):
            seen += len(batch)
            if seen == count:
                break
        taken = time.perf_counter() - started
        writer.join()
    return count / taken


def rocksdb_rate(
    folder: Path, count: int, repeats: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Return the rate at which rocksdict gives all pairs."""
    try:
        import rocksdict
    except ImportError:
        say("!!! SKIPPED: rocksdict is not installed; pip install 'kvengine[bench]'")
        return {}
    say("rocksdict can't read updates since a sequence number: all pairs are read instead")
    db: Any = rocksdict.Rdict(str(folder / "rocksdb"), rocksdict.Options(raw_mode=True))
    try:
        for number in range(count):
            db[b"%016d" % number] = b"v" * 100
        return {
            "rocksdict items() (no updates offered)": rate(
                lambda: sum(1 for _ in db.items()), count, repeats
            )
        }
    finally:
        db.close()


@contextlib.contextmanager
def redis_server(say: Callable[[str], None]) -> Iterator[int | None]:
    """Run redis-server on a free port of loopback; None if it is missing."""
    program = shutil.which("redis-server")
    try:
        import redis
    except ImportError:
        say("!!! SKIPPED: Redis: the package redis is not installed; pip install 'kvengine[bench]'")
        yield None
        return
    if program is None:
        say("!!! SKIPPED: Redis: there is no redis-server; apt-get install redis-server")
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
        try:
            client: Any = redis.Redis(port=port)
            for _ in range(500):
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.02)
            yield port
        finally:
            server.terminate()


def redis_rate(port: int, count: int, repeats: int) -> dict[str, float]:
    """Return the rate at which a stream is read in batches over loopback."""
    import redis

    client: Any = redis.Redis(port=port)
    for start in range(0, count, SIZE):
        pipe = client.pipeline(transaction=False)
        for number in range(start, min(start + SIZE, count)):
            pipe.xadd("log", {b"%016d" % number: b"v" * 100})
        pipe.execute()

    def read() -> int:
        last, seen = "0", 0
        while found := client.xread({"log": last}, count=SIZE):
            entries = found[0][1]
            seen, last = seen + len(entries), entries[-1][0]
        return seen

    return {"Redis Streams, XREAD COUNT 1000": rate(read, count, repeats)}


def wakes(
    code: str, arguments: list[str], write: Callable[[], object], count: int
) -> dict[str, float]:
    """Return percentiles, in microseconds, of waking another process."""
    taken = []
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments, str(count)], stdout=subprocess.PIPE, text=True
    ) as waiter:
        assert waiter.stdout is not None
        waiter.stdout.readline()
        for _ in range(count):
            time.sleep(PAUSE_S)
            written = time.monotonic_ns()
            write()
            taken.append((int(waiter.stdout.readline()) - written) / 1000)
    return percentiles(taken)


def thread_wakes(store: Store, count: int) -> dict[str, float]:
    """Return percentiles, in microseconds, of waking a thread of the same process."""
    taken: list[float] = []
    written = 0
    ready = threading.Semaphore(0)

    def wait() -> None:
        version = store.version
        for _ in range(count):
            ready.release()
            version = store.wait(version)
            taken.append((time.monotonic_ns() - written) / 1000)

    thread = threading.Thread(target=wait)
    thread.start()
    for _ in range(count):
        ready.acquire()
        time.sleep(PAUSE_S)
        written = time.monotonic_ns()
        store.put(b"wake", b"up")
    thread.join()
    return percentiles(taken)


def percentiles(taken: list[float]) -> dict[str, float]:
    """Return p50, p99 and the longest."""
    return {
        "p50": float(np.percentile(taken, 50)),
        "p99": float(np.percentile(taken, 99)),
        "longest": max(taken),
    }


def measure(count: int, wake_count: int, repeats: int, say: Callable[[str], None]) -> Any:
    """Return all figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates = own_rates(folder, count, repeats) | rocksdb_rate(folder, count, repeats, say)
        with Store(folder / "wake", durability="os") as store:
            store.put(b"wake", b"up")
            woken = {
                "kvengine, thread to thread": thread_wakes(store, wake_count),
                "kvengine, process to process": wakes(
                    WAITER,
                    [str(folder / "wake")],
                    lambda: store.put(b"wake", b"up"),
                    wake_count,
                ),
            }
        with redis_server(say) as port:
            if port is not None:
                import redis

                client: Any = redis.Redis(port=port)
                rates |= redis_rate(port, count, repeats)
                woken["Redis Streams, XREAD BLOCK"] = wakes(
                    REDIS_WAITER,
                    [str(port)],
                    lambda: client.xadd("wake", {"wake": "up"}),
                    wake_count,
                )
    return {"changes": count, "rates": rates, "wakes": woken}


def report(result: Any) -> str:
    """Return the figures as Markdown."""
    rates = result["rates"]
    own = rates["kvengine consumer.batches(1000)"]
    lines = [
        (
            f"{result['changes']:,} changes, keys of 16 bytes, values of 100. "
            "Ratio: how many times as fast `consumer.batches` is."
        ),
        "",
        "| reading the log | changes/s | ratio |",
        "|---|--:|--:|",
    ]
    lines += [f"| {name} | {found:,.0f} | {own / found:.2f} |" for name, found in rates.items()]
    lines += ["", "| from a write to who waits, µs | p50 | p99 | longest |", "|---|--:|--:|--:|"]
    for name, times in result["wakes"].items():
        cells = " | ".join(f"{times[what]:,.0f}" for what in ("p50", "p99", "longest"))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)
