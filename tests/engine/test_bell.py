"""A process that waits for a writer sleeps, and is woken; real processes."""

import struct
import subprocess
import sys
import threading
import time

import pytest

from kvengine import Store
from kvengine.errors import StorageError, StoreClosed

ASLEEP = 56  # where in CONTROL it says from which version on somebody wants to be woken

READER = """
import sys, time
import kvengine.engine.waiting as waiting
from kvengine import Store

def no_sleep(seconds):
    raise AssertionError("it polls")

with Store(sys.argv[1], read_only=True) as store:
    waiting.time.sleep = no_sleep
    waiting.LONGEST_SLEEP_S = 1000.0  # only the writer can wake it
    version = store.version
    print(version, flush=True)
    for _ in range(int(sys.argv[2])):
        version = store.wait(version)
        print(version, store.get(b"k").decode(), flush=True)
"""


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s", durability="os") as opened:
        opened.put(b"k", b"0")
        yield opened


def reader(store, changes):
    process = subprocess.Popen(
        [sys.executable, "-c", READER, store.directory.path, str(changes)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == f"{store.version}\n"
    return process


def asleep(store):
    with open(f"{store.directory.path}/CONTROL", "rb") as file:
        return struct.unpack_from("<Q", file.read(), ASLEEP)[0]


def until_asleep(store):
    while asleep(store) != store.version + 1:
        time.sleep(0.001)


def test_each_change_wakes_every_sleeper(store):
    with reader(store, 200) as first, reader(store, 200) as second:
        for number in range(1, 201):
            if number % 3:
                until_asleep(store)
            version = store.put(b"k", b"%d" % number)
            if number % 10 == 0:
                for process in (first, second):
                    line = ""
                    while line != f"{version} {number}\n":
                        line = process.stdout.readline()
                        assert line
        for process in (first, second):
            process.kill()


def test_a_sleeper_that_was_killed_is_forgotten_with_the_next_change(store):
    with reader(store, 1) as process:
        until_asleep(store)
        process.kill()
        process.wait()
    assert asleep(store) == store.version + 1
    store.put(b"k", b"1")
    assert asleep(store) == 0


def test_batches_and_deletes_wake_too(store):
    with reader(store, 2) as process:
        until_asleep(store)
        with store.batch() as batch:
            batch.put(b"k", b"batch")
            batch.put(b"other", b"x")
        assert process.stdout.readline() == f"{store.version} batch\n"
        until_asleep(store)
        version = store.delete(b"other")
        assert process.stdout.readline() == f"{version} batch\n"


def test_who_may_not_write_to_the_page_looks_now_and_then(store, monkeypatch):
    with Store(store.directory.path, read_only=True) as other:
        original = other.directory.open

        def refuse(name, **options):
            if options.get("writable"):
                raise StorageError(13, "Permission denied", name)
            return original(name, **options)

        monkeypatch.setattr(other.directory, "open", refuse)
        version, found = other.version, []
        thread = threading.Thread(target=lambda: found.append(other.wait(version, 30)))
        thread.start()
        time.sleep(0.01)
        assert asleep(store) == 0
        assert store.put(b"k", b"1") == version + 1
        thread.join()
        assert found == [version + 1]


def test_a_wait_ends_when_its_time_is_over_or_the_store_is_closed(store):
    other = Store(store.directory.path, read_only=True)
    assert other.wait(other.version, 0.01) == store.version
    errors = []

    def wait():
        try:
            other.wait(other.version)
        except StoreClosed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until_asleep(store)
    other.close()
    thread.join(30)
    assert len(errors) == 1
