"""Handlers that raise TimeoutError, which is an OSError, or start jobs, in the middle of a sync.

Invariants:

* What a handler raises is never taken for a refusal of the disk: nothing is read-only or lost.
* A job that a handler starts while its thread syncs, or closes, comes to its end.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import Store, StoreClosed, StoreReadOnly
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
