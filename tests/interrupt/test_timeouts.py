"""Handlers that raise TimeoutError, which is an OSError, or ValueError, or that start jobs.

Invariants:

* What a handler raises is never taken for a refusal of the disk, a folder that is gone or damaged
  bytes: its caller gets that very error, and nothing is read-only, closed or lost.
* A job that a handler starts while its thread syncs, or closes, comes to its end.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvengine import Database, Store, StoreClosed, StoreReadOnly
from kvengine.client import failures, packing
from kvengine.engine.following import follower, positions
from kvengine.engine.log import manifest
from kvengine.errors import NamespaceExists
from kvengine.metering import ledger
from kvengine.metering.usage import Counts
from kvengine.namespace import values
from kvengine.testing.interrupting import Interruption, count_points, spread
from tests.interrupt.points import check_reopened
from tests.interrupt.scenarios import content

SMALL = {"segment_bytes": 65536, "durability": "interval", "sync_interval_s": 60.0}
FILL = {b"k%d" % i: b"v" * 3000 for i in range(60)}  # in two segments: a sync of more than one file


def filled(path: Path) -> Store:
    store = Store(path, **SMALL)
    store.update(FILL)
    store.put(b"last", b"1")
    return store


@pytest.mark.parametrize("name", ["sync", "close", "checkpoint"])
def test_a_timeout_is_no_failure_of_the_disk(tmp_path: Path, name: str) -> None:
    with filled(tmp_path / "count") as store:
        total = count_points(getattr(store, name))
    for at in spread(total, 40):
        path = tmp_path / str(at)
        store = filled(path)
        expected = content(store)
        interruption = Interruption(at, TimeoutError)
        interruption.run(getattr(store, name))
        where = f"{name}, point {at} at {interruption.place}"
        try:
            assert content(store) == expected, where
            store.put(b"later", b"1")
            expected = content(store)
        except StoreClosed:
            assert name == "close", where
        except StoreReadOnly as error:
            pytest.fail(f"{where}: {error}")
        store.close()
        check_reopened(path, expected, where)


def test_a_timeout_closes_no_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that looks at the folder is told, by an OSError, that it is gone."""
    monkeypatch.setattr(follower, "check_is_due", lambda *_: True)
    with filled(tmp_path) as store, Store(tmp_path, read_only=True) as reader:
        for at in range(1, count_points(lambda: reader.get(b"last")) + 1):
            store.put(b"last", b"%d" % at)
            interruption = Interruption(at, TimeoutError)
            error = interruption.run(lambda: reader.get(b"last"))
            assert type(error) in (TimeoutError, type(None)), (at, interruption.place, error)
            assert reader.get(b"last") == b"%d" % at, interruption.place


def parsers(path: Path) -> dict[str, Callable[[], Any]]:
    """Return calls that take a ValueError for damage; each can be made again and again."""
    with Store(path / "store") as store:
        store.put(b"k", b"v")
    text = (path / "store" / "MANIFEST").read_bytes()
    position = positions.Position("0" * 32, "c", 1, 0, 1.0).encode()
    db = Database(Store.in_memory(), usage_interval_s=60)
    kv = db.namespace("n")
    kv.put("k", b"[1]", metadata={"a": 1})
    row = ledger.Row(Counts(), 1, 2).encode()
    error = failures.encode_error(NamespaceExists("n"))
    message = packing.pack([b"1", {"a": "b"}])
    return {
        "manifest": lambda: manifest.decode(text, "MANIFEST"),
        "position": lambda: positions.decode(position, "c.consumer"),
        "catalog": lambda: Database(db.store, usage_interval_s=60)._catalog.find("n"),
        "usage": lambda: ledger.decode(b"key", row),
        "message": lambda: packing.unpack(message),
        "error": lambda: failures.decode_error(error, 409),
        "value": lambda: kv.get("k", "json"),
        "metadata": lambda: values.decode_metadata(b'{"a":1}'),
    }


def test_a_value_error_of_a_handler_is_no_damage(tmp_path: Path) -> None:
    for name, call in parsers(tmp_path).items():
        total = count_points(call)
        for at in range(1, total + 1):
            interruption = Interruption(at, ValueError)
            error = interruption.run(call)
            assert type(error) in (ValueError, type(None)), (name, interruption.place, error)
        assert total, name
        call()


@pytest.mark.parametrize("error", [TimeoutError, ValueError])
def test_what_a_handler_raises_is_no_damage_and_no_refusal(tmp_path: Path, error: type) -> None:
    """CorruptData "remove the file, and it begins anew" would be dangerous advice."""
    with Store(tmp_path / "store", durability="os") as store:
        store.update(FILL)

        def work() -> None:
            consumer = store.consumer("one")
            store.put(b"more", b"1")
            consumer.acknowledge([change.version for change in consumer.changes()][-1])
            assert [info.name for info in store.consumers()] == ["one"]
            with store.snapshot() as frozen, Store(store.path, read_only=True) as reader:
                assert len(frozen) == len(reader)

        work()
        for at in spread(count_points(work), 150):
            interruption = Interruption(at, error)
            raised = interruption.run(work)
            where = f"point {at} at {interruption.place}"
            assert raised is None or type(raised) is error, f"{where}: {raised!r}"


PROGRAM = """
import sys, kvengine
folder, seen = sys.argv[1], 0

def look(frame, event, argument):
    global seen
    if event == "line" and inside == 0:
        seen += 1
        if seen == at:
            handle()
    return look

def handle():
    global inside
    inside = 1
    try:
        getattr(store, method)()
    except kvengine.KvError as error:
        assert isinstance(error, (kvengine.StoreBusy, kvengine.StoreClosed)), error
    inside = 0

for call in ("sync", "close"):
    for method in ("compact", "close", "checkpoint"):
        at, points = 1, 1
        while at <= points:
            seen = inside = 0
            store = kvengine.Store(f"{folder}/{call}-{method}-{at}", segment_bytes=65536,
                                   durability="interval", sync_interval_s=60.0)
            for i in range(30):
                store.put(b"k%d" % i, b"v" * 3000)
            sys.settrace(look)
            try:
                getattr(store, call)()
            except kvengine.StoreClosed:
                assert method == "close"
            finally:
                sys.settrace(None)
            points = max(points, seen)
            store.close()
            with kvengine.Store(f"{folder}/{call}-{method}-{at}") as again:
                assert len(again) == 30, (call, method, at, len(again))
            at += 3
print("done")
"""


def test_a_handler_may_start_a_job_in_the_middle_of_a_sync(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,  # it takes seconds, or hangs
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
