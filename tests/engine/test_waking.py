"""A write in one process wakes those who wait in others, through one thread of each process."""

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvengine import Store, StoreClosed
from kvengine.engine.following import waiting
from kvengine.engine.following.changes import Changes
from kvengine.engine.log.futex import HAS_FUTEX, Futex
from tests.forking import in_child
from tests.waiting import HANG_S, threads, until

ROOT = Path(__file__).parents[2]
needs_futex = pytest.mark.skipif(not HAS_FUTEX, reason="this system has no futex")

# Nobody looks by itself: who misses a write waits for ever.
WAITER = """
import sys
from kvengine import Store
from kvengine.engine.following import waiting
from kvengine.engine.log import futex
futex.SLEEP_MAX_S = waiting.SLEEP_MAX_S = 3600.0
with Store(sys.argv[1], durability="os", read_only=sys.argv[3] == "reader") as store:
    version = 0
    while version < int(sys.argv[2]):
        version = store.wait(version)
        print(version, flush=True)
"""

# Writes, and goes on once it has heard what all have written so far.
PEER = """
import sys
from kvengine import Store
from kvengine.engine.following import waiting
from kvengine.engine.log import futex
futex.SLEEP_MAX_S = waiting.SLEEP_MAX_S = 3600.0
name, peers, rounds = sys.argv[2].encode(), int(sys.argv[3]), int(sys.argv[4])
with Store(sys.argv[1], durability="os") as store:
    heard = 0
    changes = store.tail(follow=True)
    for number in range(1, rounds + 1):
        store.put(name, b"%d" % number)
        while heard < number * peers:
            heard = next(changes).version
    print(heard)
"""


class NoThread:
    """A Worker where no thread is to be had."""

    def __init__(self, step):
        pass

    def wake(self):
        return False

    def stop(self):
        pass


@pytest.fixture(params=["reader", "writer"])
def pair(tmp_path, request):
    """Two store objects, as two processes have them: one writes, one waits."""
    options = {"durability": "os", "compaction": "manual"}
    with Store(tmp_path / "s", **options) as writer:
        writer.put(b"a", b"")
        with Store(tmp_path / "s", **options, read_only=request.param == "reader") as other:
            yield writer, other


@needs_futex
def test_one_that_is_about_to_sleep_does_not_take_the_bit_of_another_for_its_own(pair):
    """It was told to, and another one says anew that it may sleep: a write came in between."""
    writer, reader = pair
    futexes = []
    for _ in range(2):
        file = reader._parts.directory.open("CONTROL", writable=True, map_bytes=4096)
        futexes.append(Futex(reader._parts.control_page, file))
    prepared = futexes[0].prepare()
    version = writer.put(b"a", b"")
    futexes[1].prepare()

    def sleep() -> None:
        for _ in range(int(2 * HANG_S)):
            futexes[0].sleep(prepared, version, 0.5)

    sleeper = threading.Thread(
        target=sleep,
        daemon=True,
    )
    sleeper.start()
    sleeper.join(HANG_S / 2)
    assert not sleeper.is_alive()


@needs_futex
def test_no_waiter_misses_a_write_while_others_come_to_wait(tmp_path):
    rounds = 400
    with Store(tmp_path / "s", durability="os") as store:
        store.put(b"a", b"")
        command = [sys.executable, "-c", WAITER, tmp_path / "s", str(rounds)]
        waiters = [
            subprocess.Popen([*command, kind], stdout=subprocess.PIPE, text=True, cwd=ROOT)
            for kind in ("reader", "writer", "reader", "writer")
        ]

        def give_up() -> None:
            for waiter in waiters:
                waiter.kill()

        heard, alarm = [0] * len(waiters), threading.Timer(HANG_S, give_up)
        alarm.start()
        try:
            # Those who have heard come back to wait, each in its time, while the next is written.
            for version in range(2, rounds + 1):
                store.put(b"a", b"")
                for number, waiter in enumerate(waiters):
                    while heard[number] < version:
                        line = waiter.stdout.readline()
                        assert line, f"waiter {number} did not hear of version {version}"
                        heard[number] = int(line)
        finally:
            alarm.cancel()
            for waiter in waiters:
                waiter.kill()
                waiter.wait()
                waiter.stdout.close()


@needs_futex
def test_processes_that_all_write_hear_of_each_other(tmp_path):
    """Versions are a count of all writes: nobody goes on before it has heard of each."""
    Store(tmp_path / "s").close()
    peers, rounds = 3, 200
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PEER, tmp_path / "s", name, str(peers), str(rounds)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in "abc"
    ]
    try:
        told = [int(process.communicate(timeout=HANG_S)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert all(heard >= peers * (rounds - 1) + 1 for heard in told)


def test_one_thread_hears_for_all_and_ends_with_the_store(pair):
    writer, reader = pair
    before, version = threads(), reader.version
    heard = [Changes() for _ in range(20)]
    contexts = [reader._parts.waiting.listening(reader._parts, changes.notify) for changes in heard]
    for context in contexts:
        context.__enter__()
    assert threads() == before + 1
    assert reader._parts.waiters == 20
    writer.put(b"a", b"")
    for changes, context in zip(heard, contexts, strict=True):
        assert changes.wait_for(lambda: reader.version > version, HANG_S)
        context.__exit__(None, None, None)
    assert reader._parts.waiters == 0
    reader.close()
    until(lambda: threads() == before, "the thread ends")


def test_the_thread_ends_when_nobody_listens_any_more(pair, monkeypatch):
    monkeypatch.setattr(waiting, "LINGER_S", 0.01)
    monkeypatch.setattr(waiting, "SLEEP_MAX_S", 0.01)
    _, reader = pair
    before = threads()
    for _ in range(3):
        assert reader.wait(reader.version, 0.01) == 1
        until(lambda: threads() == before, "the thread ends")


def test_a_store_that_was_dropped_takes_its_thread_along(tmp_path):
    Store(tmp_path / "s").close()
    before = threads()
    reader = Store(tmp_path / "s", read_only=True)
    reader.wait(0, 0.01)
    assert threads() == before + 1
    del reader
    gc.collect()
    until(lambda: threads() == before, "the thread ends")


@needs_futex
def test_closing_does_not_wait_for_the_sleeper_to_look_by_itself(pair, monkeypatch):
    monkeypatch.setattr(waiting, "SLEEP_MAX_S", 3600.0)
    monkeypatch.setattr("kvengine.engine.log.futex.SLEEP_MAX_S", 3600.0)
    _, reader = pair
    errors = []

    def wait():
        try:
            reader.wait(1)
        except StoreClosed as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: (Path(reader.path) / "CONTROL").read_bytes()[56] & 1, "its thread sleeps")
    reader.close()
    waiter.join(HANG_S)
    assert len(errors) == 1


def test_a_store_in_memory_has_no_thread_for_it():
    with Store.in_memory() as store:
        before = threads()
        store.wait(0, 0.01)
        assert threads() == before


def test_a_listener_that_fails_keeps_nobody_from_hearing(pair):
    writer, reader = pair
    changes, version = Changes(), reader.version

    def fail():
        raise RuntimeError

    with (
        reader._parts.waiting.listening(reader._parts, fail),
        reader._parts.waiting.listening(reader._parts, changes.notify),
    ):
        writer.put(b"a", b"")
        assert changes.wait_for(lambda: reader.version > version, HANG_S)


@pytest.mark.parametrize("has_thread", [True, False])
def test_without_a_word_to_sleep_on_or_a_thread_one_looks(pair, monkeypatch, has_thread):
    writer, reader = pair
    monkeypatch.setattr(waiting, "HAS_FUTEX", False)
    if not has_thread:
        monkeypatch.setattr(waiting, "Worker", NoThread)
    found = []
    waiter = threading.Thread(target=lambda: found.append(reader.wait(1)))
    waiter.start()
    until(lambda: reader._parts.waiters == 1, "it waits")
    writer.put(b"a", b"")
    waiter.join(HANG_S)
    assert found == [2]


def test_a_reader_that_came_before_any_writer_hears_of_the_first(tmp_path):
    Store(tmp_path / "s").close()
    (tmp_path / "s/CONTROL").unlink()
    with Store(tmp_path / "s", read_only=True) as reader:
        found = []
        waiter = threading.Thread(target=lambda: found.append(reader.wait(0)))
        waiter.start()
        until(lambda: reader._parts.waiters == 1, "it waits")
        with Store(tmp_path / "s", durability="os") as writer:
            writer.put(b"a", b"")
            waiter.join(HANG_S)
            assert found == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_fork_hears_through_a_thread_of_its_own(pair):
    writer, reader = pair
    waiter = threading.Thread(target=lambda: reader.wait(1))
    waiter.start()
    until(lambda: reader._parts.waiters == 1, "it waits")
    ended = threading.Event()

    def write():
        while not ended.wait(0.2):
            writer.put(b"a", b"")

    writing = threading.Thread(target=write)

    def look():
        version = 1
        while threads() == 1:  # it may have been written to before this process waits
            version = reader.wait(version, HANG_S)
        reader.close()
        until(lambda: threads() == 1, "the thread ends")
        return version > 1

    writing.start()
    try:
        assert in_child(look)
    finally:
        ended.set()
        writing.join()
    waiter.join(HANG_S)
    version = writer.put(b"a", b"")
    assert reader.wait(version - 1, HANG_S) == version


def test_a_signal_ends_the_wait(pair):
    _, reader = pair

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt):
            reader.wait(reader.version)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert reader._parts.waiters == 0
