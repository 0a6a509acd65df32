"""The jobs of a process that is killed or stopped are done by another that does no more than write.

It asks for nothing: no compact(), no opening or closing, no waiting for what is removed.
"""

import contextlib
import signal

import pytest

import kvengine
from kvengine import Store
from kvengine.namespace.layout import data_prefix
from kvengine.testing.check import check_store
from kvengine.testing.clock import START, ManualClock
from tests.processes.running import running
from tests.waiting import until

OPTIONS = {"durability": "os", "segment_bytes": 16384}
NUMBERS = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
MARK = b"a value that has expired"

# Does a job for ever; it is seen to be at work, as one is that waits for its disk.
AT_WORK = """
import sys, threading, kvengine
store = kvengine.Store(sys.argv[1], durability="os", segment_bytes=16384)
def job():
    print("at work", flush=True)
    threading.Event().wait()
store._parts.maintenance.run(job)
"""


@pytest.fixture
def at_work(tmp_path):
    """Return a process that does the jobs of the store in `tmp_path`."""
    with running(AT_WORK, tmp_path / "store", "at work") as process:
        yield process


def overwrite(store, times):
    for version in range(times):
        store.put(b"key %02d" % (version % 50), bytes(50))


@NUMBERS
def test_compaction(tmp_path, at_work, number):
    with Store(tmp_path / "store", **OPTIONS) as store:
        overwrite(store, 30_000)
        before = store.stats().log_bytes
        assert not store._parts.claim_jobs(store._parts.token, 2000)  # by the other process
        at_work.send_signal(number)

        def is_small():
            overwrite(store, 1)
            return store.stats().log_bytes < before / 2

        until(is_small, "it compacts")
        assert len(store) == 50
        check_store(store)


def is_in(file):
    """True if a file holds what has expired, and was not removed just now."""
    with contextlib.suppress(FileNotFoundError):
        return MARK in file.read_bytes()
    return False


@NUMBERS
def test_expiry(tmp_path, at_work, number):
    clock, path = ManualClock(), tmp_path / "store"
    with Store(path, clock=clock, **OPTIONS) as store:
        for key in range(3000):
            store.put(b"goes %d" % key, MARK, expires_at=START + 10)
        clock.advance(20)
        at_work.send_signal(number)

        def are_gone():
            overwrite(store, 100)
            return not any(is_in(file) for file in path.glob("*.log"))

        until(are_gone, "what has expired goes from the disk")
        assert len(store) == 50
        check_store(store)


# Deletes a namespace, and is seen to remove the first of its keys.
REMOVES = """
import sys, threading, kvengine
from kvengine.database import removal
removal.BATCH_KEYS = 10
db = kvengine.open(sys.argv[1], durability="os")
wait = db._remover._stopping.wait
def stay(seconds):
    print("removing", flush=True)
    sys.stdin.readline()
db._remover._stopping.wait = stay
db.delete("old")
db.wait_for_removals()
print("done", flush=True)
"""


@NUMBERS
def test_removal_of_a_namespace(tmp_path, number):
    path = tmp_path / "store"
    with kvengine.open(path, durability="os") as db:
        db.namespace("old").put_many({str(key): "v" for key in range(100)})
        other = db.namespace("other")
        prefix = data_prefix(db._catalog.find("old").number)
        with running(REMOVES, path, "removing") as removes:
            assert len(list(db.store.keys(prefix))) == 90
            removes.send_signal(number)

            def are_gone():
                other.increment("writes")
                return next(iter(db.store.keys(prefix, limit=1)), None) is None

            until(are_gone, "another process removes them")
            until(lambda: not db._catalog.deleting(), "it is known that they are gone")
            if number == signal.SIGSTOP:
                db.namespace("old").put("new", "value")
                removes.send_signal(signal.SIGCONT)
                removes.stdin.close()
                assert removes.stdout.read().endswith("done\n")
                assert db.namespace("old").get("new") == "value"
        assert db.store.verify().ok
