"""Processes that write to one database: namespaces, their removal, and what is counted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import kvengine
from kvengine import NamespaceNotFound, StoreBusy
from kvengine.database import catalog
from kvengine.file.lease import take
from kvengine.metering.usage import Counts

QUICK = {"durability": "os"}
EACH, PROCESSES = 30, 4
MAKES = """
import sys, kvengine
db = kvengine.open(sys.argv[1], durability="os", usage_interval_s=0.01)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    db.namespace(f"shared {number}").increment("n")
    db.namespace(f"{sys.argv[2]} {number}").put("mine", sys.argv[2])
db.close()
"""
DELETES = """
import sys, kvengine
from kvengine.database.removal import Remover
def sweep(self, prefix):
    print("begun", flush=True)
    sys.stdin.readline()
Remover._sweep = sweep
db = kvengine.open(sys.argv[1], durability="os")
db.delete("ns")
sys.stdin.readline()
"""
FORKS = """
import os, sys, time, kvengine
db = kvengine.open(sys.argv[1], durability="os", usage_interval_s=0.05)
kv = db.namespace("ns")
kv.get("k")
kv.put("a", "1")
child = os.fork()
if child == 0:
    kv.put("b", "2")
    kv.put("c", "3")
    while db._ledger.pending(0):
        time.sleep(0.01)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
db.close()
"""
FORKS_WITHOUT_DATABASE = """
import os, sys, time, kvengine
kv = kvengine.open(sys.argv[1], durability="os", usage_interval_s=0.05).namespace("ns")
kv.get("k")
kv.put("a", "1")
child = os.fork()
if child == 0:
    kv.get("k")
    for name in "bcd":
        kv.put(name, "2")
    time.sleep(60)
    os._exit(1)
db = kvengine.open(sys.argv[1], read_only=True)
until = time.monotonic() + 30
while db.usage("ns").counts.writes < 4 and time.monotonic() < until:
    time.sleep(0.01)
os.kill(child, 9)
os.waitpid(child, 0)
"""
ENDS_WITHOUT_CLOSE = """
import sys, kvengine
kv = kvengine.open(sys.argv[1], durability="os", usage_interval_s=3600).namespace("ns")
kv.put("a", "1")
kv.get("a")
"""


@contextmanager
def running(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_all_make_namespaces_and_count(tmp_path: Path) -> None:
    """No number is given twice, no title is there twice, and each operation is counted once."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MAKES, str(tmp_path / "db"), str(number), str(EACH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("go\n", timeout=120)
        assert child.returncode == 0
    with kvengine.open(tmp_path / "db") as db:
        rows = db._catalog.living()
        assert len({row.number for row in rows}) == len(rows) == EACH * (PROCESSES + 1)
        assert {row.title for row in rows} == {
            f"{who} {number}" for who in ("shared", *range(PROCESSES)) for number in range(EACH)
        }
        counts = db.usage().counts
        assert (counts.reads, counts.writes) == (EACH * PROCESSES, 2 * EACH * PROCESSES)
        for number in range(EACH):
            assert db.namespace(f"shared {number}").get("n") == str(PROCESSES)
            for who in range(PROCESSES):
                assert db.namespace(f"{who} {number}").get("mine") == str(who)


def test_what_others_change_is_seen_at_once(tmp_path: Path) -> None:
    with kvengine.open(tmp_path, **QUICK) as one, kvengine.open(tmp_path, **QUICK) as other:
        made = one.create_namespace("ns")
        kv = other.namespace("ns")
        assert kv.id == made.id
        kv.put("key", "value")
        other.rename("ns", "new")
        assert [info.title for info in one.namespaces()] == ["new"]
        one.delete("new")
        for call in (
            lambda: kv.get("key"),
            lambda: kv.put("key", "value"),
            lambda: other.namespace_by_id(made.id),
        ):
            with pytest.raises(NamespaceNotFound):
                call()
        assert other.namespace("new").get("key") is None  # another one
        assert one.namespace("new").id == other.namespace("new").id != made.id


def test_another_process_goes_on_with_a_removal(tmp_path: Path) -> None:
    """Whoever deletes a namespace may be stopped, or killed."""
    with kvengine.open(tmp_path, **QUICK) as db:
        db.namespace("ns").put_many({str(number): "v" for number in range(100)})
        with running(DELETES, tmp_path) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            child.send_signal(signal.SIGSTOP)
            assert db.namespaces() == []
            assert db.namespace("ns").get("1") is None
            assert db._catalog.deleting()
            child.kill()
            child.wait()
            db.wait_for_removals()
        assert db._catalog.deleting() == []
        assert not [key for key in db.store.keys(b"d") if key[:5] == b"d\0\0\0\0"]


def test_a_process_that_stops_in_a_change_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PATIENCE_S", 0.05)
    with kvengine.open(tmp_path, **QUICK) as db:
        there = db.namespace("there")
        lease = take(db.store._parts.directory, catalog.LEASE_NAME)
        assert lease is not None
        with pytest.raises(StoreBusy, match=r"process \d+ has been changing them"):
            db.create_namespace("new")
        there.put("key", "value")  # who changes no namespace waits for nobody
        assert [info.title for info in db.namespaces()] == ["there"]
        lease.release()
        db.create_namespace("new")


def test_a_forked_child_counts_what_it_does(tmp_path: Path) -> None:
    """And nothing of what its parent did before: that one writes it down."""
    with running(FORKS, tmp_path) as child:
        assert child.wait(60) == 0
    with kvengine.open(tmp_path, **QUICK) as db:
        assert db.usage("ns").counts == Counts(reads=1, writes=3, bytes_in=3)


def test_a_child_of_a_program_that_keeps_only_a_namespace_counts_too(tmp_path: Path) -> None:
    """As in the guide: ``visits = kvengine.open(path).namespace("visits")``, then workers."""
    with running(FORKS_WITHOUT_DATABASE, tmp_path) as child:
        assert child.wait(60) == 0
    with kvengine.open(tmp_path, **QUICK) as db:
        assert db.usage("ns").counts == Counts(reads=2, writes=4, bytes_in=4)


def test_a_program_that_ends_without_close_writes_down_what_it_counted(tmp_path: Path) -> None:
    with running(ENDS_WITHOUT_CLOSE, tmp_path) as child:
        assert child.wait(60) == 0
    with kvengine.open(tmp_path, **QUICK) as db:
        assert db.usage("ns").counts == Counts(reads=1, writes=1, bytes_in=1, bytes_out=1)


def test_two_that_add_to_a_row_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One adds between the other's look at a row and its write."""
    options = {**QUICK, "usage_interval_s": 60}
    with kvengine.open(tmp_path, **options) as one, kvengine.open(tmp_path, **options) as other:
        for db in (one, other):
            db.namespace("ns").get("key")
        size = one._ledger._size

        def between(number: int) -> object:
            monkeypatch.setattr(one._ledger, "_size", size)
            other._ledger.write_down()
            return size(number)

        monkeypatch.setattr(one._ledger, "_size", between)
        one._ledger.write_down()
        assert one.usage("ns").counts == other.usage("ns").counts == Counts(reads=2)
