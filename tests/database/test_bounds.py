"""Bounds of namespaces: kept in the catalog, seen by all processes, threads, servers and edges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import kvengine
from kvengine import CorruptData, Database, Edge, LimitExceeded
from kvengine.namespace.layout import catalog_key
from tests.server.running import TOKEN, running
from tests.waiting import until

WRITES = """
import sys, kvengine
db = kvengine.open(sys.argv[1], durability="os")
kv = db.namespace("bounded")
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    kv.put(f"{sys.argv[2]}/{number}", "v" * 50)
print(kv._meter.evictions, flush=True)
sys.stdin.readline()
"""


def open_database(path: Path) -> Database:
    return kvengine.open(path / "db", durability="os")


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path / "db"), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_they_are_kept(tmp_path: Path) -> None:
    with open_database(tmp_path) as db:
        made = db.create_namespace("bounded", max_bytes=5000, eviction="lfu")
        db.namespace("free")
    with open_database(tmp_path) as db:
        assert [info[1:] for info in db.namespaces()] == [
            ("bounded", 5000, None, "lfu"),
            ("free", None, None, None),
        ]
        kv = db.namespace(made.id)
        for number in range(200):
            kv.put(str(number), "v" * 100)
        assert 4500 < kv.size().bytes <= 5000
        row = json.loads(db.store[catalog_key(db.namespace("free").id)])
        assert row.keys() == {"number", "title", "created", "state"}  # as before there were bounds


def test_damaged_bounds_are_refused(tmp_path: Path) -> None:
    with open_database(tmp_path) as db:
        key = catalog_key(db.create_namespace("bounded", max_keys=5).id)
        row = json.loads(db.store[key])
    with kvengine.Store(tmp_path / "db", groups=(b"d", 5)) as store:
        store[key] = json.dumps({**row, "max_keys": -1}).encode()
    with pytest.raises(CorruptData, match="expected bounds, found max_keys must be from 1"):
        open_database(tmp_path)


def test_threads_stay_within_them() -> None:
    with Database.in_memory() as db:
        db.create_namespace("bounded", max_keys=200)
        kv = db.namespace("bounded")
        most = [0] * 4

        def write(thread: int) -> None:
            for number in range(1500):
                kv.put(f"{thread}/{number}", "v")
                most[thread] = max(most[thread], kv.count())

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kv.count() <= 200
        assert max(most) <= 200 + 3  # what the others were just writing
        assert kv.count() + kv._meter.evictions == 4 * 1500


def test_processes_stay_within_them(tmp_path: Path) -> None:
    with open_database(tmp_path) as db:
        db.create_namespace("bounded", max_keys=300)
        kv = db.namespace("bounded")
        processes = [writer(tmp_path, str(number), 2000) for number in range(3)]
        for process in processes:
            go(process)
        evicted = [answer(process) for process in processes]
        assert 250 < kv.count() <= 300
        assert kv.count() + sum(evicted) == 3 * 2000
        # A process that is open already sees new ones with its next write.
        db.set_bounds("bounded", max_keys=100, eviction="lfu")
        for process in processes:
            process.communicate("\n", timeout=60)
            assert process.returncode == 0


def test_other_processes_see_new_bounds(tmp_path: Path) -> None:
    with open_database(tmp_path) as db:
        kv = db.namespace("bounded")
        process = writer(tmp_path, "a", 1000)
        db.set_bounds("bounded", max_keys=50)
        go(process)
        assert answer(process) >= 950
        assert kv.count() <= 50
        process.communicate("\n", timeout=60)


def test_after_a_kill_the_next_write_evicts(tmp_path: Path) -> None:
    with open_database(tmp_path) as db:
        db.create_namespace("bounded", max_keys=100)
    for attempt in range(3):
        process = writer(tmp_path, f"killed{attempt}", 10**6)
        go(process)
        with open_database(tmp_path) as db:
            kv = db.namespace("bounded")
            until(lambda name=f"killed{attempt}/", kv=kv: kv.count(name) > 50, "some writes")
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            assert kv.count() <= 101
            kv.put("mine", "1")
            assert kv.count() <= 100
            assert kv["mine"] == "1"


def test_over_the_network() -> None:
    with running(limits="relaxed") as server, kvengine.connect(server.url, token=TOKEN) as db:
        made = db.create_namespace("bounded", max_keys=50)
        kv = db.namespace("bounded")
        for number in range(120):
            kv.put(str(number), "v")
        assert 45 < kv.count() <= 50
        assert db.namespaces() == server.db.namespaces()
        assert db.usage("bounded").counts.evictions == 120 - kv.count()
        assert db.set_bounds(made.id, max_bytes=100, eviction="lfu")[2:] == (100, None, "lfu")
        assert kv.size().bytes <= 100
        with pytest.raises(LimitExceeded, match="holds at most 100 bytes"):
            kv.put("x", "v" * 100)


def test_an_edge_sees_evictions() -> None:
    with Database.in_memory() as db, Edge(db) as edge:
        edge.create_namespace("bounded", max_keys=2)
        kv = edge.namespace("bounded")
        kv["a"] = "1"
        assert kv.get("a") == "1"
        kv["b"] = "1"
        kv["c"] = "1"
        until(lambda: kv.get("a") is None, "the eviction")
        assert (kv.get("b"), kv.get("c")) == ("1", "1")
