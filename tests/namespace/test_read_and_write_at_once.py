"""increment and touch read, then write: what somebody else writes in between is never lost."""

import json
import subprocess
import sys
import threading

import pytest

import kvengine
from kvengine import Database
from tests.server.running import TOKEN, running

TIMES = 60


def at_once(*calls):
    """Call functions in threads that begin together; raise what one of them raised."""
    begin, errors = threading.Barrier(len(calls), timeout=60), []

    def run(call):
        begin.wait()
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


class Meddling:
    """A store in which somebody else writes between each read of an entry and what comes next."""

    def __init__(self, store, write):
        self.store, self.write, self.left = store, write, 3

    def __getattr__(self, name):
        return getattr(self.store, name)

    def get_entry(self, key):
        found = self.store.get_entry(key)
        if self.left:
            self.left -= 1
            self.write()
        return found


@pytest.fixture
def kv():
    with Database.in_memory() as db:
        yield db.namespace("n")


def test_increments_of_many_threads_are_all_counted(kv):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        sums = []
        at_once(*[lambda: sums.extend(kv.increment("k") for _ in range(TIMES))] * 4)
    finally:
        sys.setswitchinterval(before)
    assert sorted(sums) == list(range(1, 4 * TIMES + 1))  # each sum was given once
    assert kv.get("k") == str(4 * TIMES)


@pytest.mark.parametrize("there", [None, "5"])
def test_an_increment_sees_what_was_written_since_it_read(kv, monkeypatch, there):
    if there is not None:
        kv.put("k", there, metadata={"a": 1})
    store, name = kv._store, kv._name("k")
    meddling = Meddling(store, lambda: store.put(name, b"100"))
    monkeypatch.setattr(type(kv), "_store", property(lambda self: meddling), raising=False)
    assert kv.increment("k", 7) == 107
    monkeypatch.undo()
    assert store.get(name) == b"107"


def test_a_touch_keeps_what_was_written_since_it_read(kv, monkeypatch):
    kv.put("k", "old")
    store, name = kv._store, kv._name("k")
    meddling = Meddling(store, lambda: store.put(name, b"new"))
    monkeypatch.setattr(type(kv), "_store", property(lambda self: meddling), raising=False)
    assert kv.touch("k", expiration_ttl=1000) == store.version
    monkeypatch.undo()
    assert (kv.get("k"), kv.get_metadata("k").expiration is not None) == ("new", True)


def test_a_touch_does_not_bring_back_what_was_deleted_since_it_read(kv, monkeypatch):
    kv.put("k", "old")
    store, name = kv._store, kv._name("k")
    meddling = Meddling(store, lambda: store.delete(name))
    monkeypatch.setattr(type(kv), "_store", property(lambda self: meddling), raising=False)
    assert kv.touch("k", expiration_ttl=1000) == 0
    monkeypatch.undo()
    assert kv.get("k") is None


def test_touches_and_puts_of_threads_lose_no_put(kv):
    kv.put("k", "0")
    seen = []

    def put():
        for number in range(1, TIMES * 4):
            kv.put("k", str(number))
            seen.append(kv.get("k") == str(number))

    at_once(put, *[lambda: [kv.touch("k", expiration_ttl=1000) for _ in range(TIMES * 4)]] * 2)
    assert all(seen)
    assert kv.get("k") == str(TIMES * 4 - 1)


PROCESS = """
import sys, kvengine
url, token, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
with kvengine.connect(url, token=token) as db:
    kv = db.namespace("counters")
    print(flush=True)
    sys.stdin.readline()
    print([kv.increment("k", 3) for _ in range(times)])
"""


def test_increments_of_processes_through_a_server_are_all_counted():
    with running() as server, kvengine.connect(server.url, token=TOKEN) as db:
        kv = db.namespace("counters")
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESS, server.url, TOKEN, str(TIMES)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            ) for _ in range(3)
        ]  # fmt: skip
        try:
            for process in processes:
                assert process.stdout.readline() == "\n"
            for process in processes:
                process.stdin.write("\n")
                process.stdin.flush()
            sums = [
                number
                for process in processes
                for number in json.loads(process.communicate(timeout=120)[0])
            ]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert sorted(sums) == list(range(3, 9 * TIMES + 1, 3))
        assert kv.get("k") == str(9 * TIMES)
