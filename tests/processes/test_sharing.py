"""A store that writes alone takes no mutex; the first that joins changes that, in mid-write too."""

import os
import signal
import struct
import threading
import time

import pytest

from kvengine import Store, StoreLocked, VersionConflict
from kvengine.engine import joining
from kvengine.file.system import process_start
from tests.processes.running import running
from tests.waiting import until

PID_START, SHARED, INSIDE = 28 * 8, 46 * 8, 47 * 8  # on the control page

# Counts as fast as it can, alone at first, and says how far it came when its input ends.
COUNTER = """
import sys, threading, kvengine
from tests.processes.test_sharing import increment
store = kvengine.Store(sys.argv[1], durability="os")
print("open", flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
made = 0
while not ended.is_set():
    made += increment(store)
print(made, flush=True)
store.close()
"""


def increment(store):
    """Add one to a counter, by compare-and-set; return 0 if somebody else was quicker."""
    entry = store.get_entry(b"counter")
    before, version = (0, 0) if entry is None else (int(entry.value), entry.version)
    try:
        store.put(b"counter", b"%d" % (before + 1), if_version=version)
    except VersionConflict:
        return 0
    return 1


def word(path, offset):
    with (path / "CONTROL").open("rb") as page:
        page.seek(offset)
        return struct.unpack("<Q", page.read(8))[0]


def set_word(path, offset, value):
    with (path / "CONTROL").open("r+b") as page:
        page.seek(offset)
        page.write(struct.pack("<Q", value))


@pytest.fixture
def counter(tmp_path):
    """Return a process that writes alone."""
    with running(COUNTER, tmp_path, "open") as process:
        yield process


@pytest.mark.parametrize("turn", range(5))
def test_no_increment_is_lost_while_a_second_process_joins(tmp_path, counter, turn):
    made = 0
    with Store(tmp_path, durability="os") as store:
        assert word(tmp_path, SHARED) == 2
        for _ in range(3000):
            made += increment(store)
        counter.stdin.close()
        made += int(counter.stdout.readline())
        counter.wait()
        assert int(store[b"counter"]) == store.version == made


def test_who_is_alone_takes_no_mutex(tmp_path):
    with Store(tmp_path, durability="os") as store:
        store.put(b"key", b"1")
        assert word(tmp_path, SHARED) in {0, 2}  # 2: the system has no barrier
        assert word(tmp_path, INSIDE) == 0
        with pytest.raises(VersionConflict):
            store.put(b"key", b"1", if_version=7)
        assert word(tmp_path, INSIDE) == 0


def test_who_is_killed_in_a_write_that_it_made_alone_keeps_nobody_out(tmp_path, counter):
    counter.send_signal(signal.SIGSTOP)
    set_word(tmp_path, SHARED, 0)
    set_word(tmp_path, INSIDE, 1)
    counter.kill()
    counter.wait()
    with Store(tmp_path, durability="os") as store:
        before = int(store.get(b"counter", b"0"))
        assert increment(store)
        assert int(store[b"counter"]) == before + 1


def test_one_that_has_the_number_of_who_was_killed_alone_is_not_taken_for_it(tmp_path, counter):
    """Its lock is held by somebody else: here by the one that has the number now."""
    counter.send_signal(signal.SIGSTOP)
    assert word(tmp_path, PID_START) == process_start(counter.pid) > 0
    set_word(tmp_path, PID_START, process_start(counter.pid) - 1)
    set_word(tmp_path, SHARED, 0)
    set_word(tmp_path, INSIDE, 1)
    with Store(tmp_path, durability="os") as store:
        assert (word(tmp_path, SHARED), word(tmp_path, INSIDE)) == (2, 0)
        before = int(store.get(b"counter", b"0"))
        assert increment(store)
        assert int(store[b"counter"]) == before + 1


def test_who_joins_waits_until_nobody_is_inside(tmp_path):
    with Store(tmp_path, durability="os") as store:
        store.put(b"key", b"1")
        set_word(tmp_path, SHARED, 0)
        set_word(tmp_path, INSIDE, 1)  # as if it were in the middle of a write
        opened = []
        thread = threading.Thread(target=lambda: opened.append(Store(tmp_path, durability="os")))
        thread.start()
        until(lambda: word(tmp_path, SHARED) == 1, "it says that it joins")
        for _ in range(400):  # longer than it takes to look whether that one is there still
            time.sleep(0.001)
            assert opened == []
        set_word(tmp_path, INSIDE, 0)
        thread.join(60)
        opened[0].put(b"key", b"2")
        assert store[b"key"] == b"2"
        opened[0].close()


def test_who_joins_is_told_which_process_was_stopped_in_mid_write(tmp_path, monkeypatch, counter):
    monkeypatch.setattr(joining, "PATIENCE_S", 0.5)
    counter.send_signal(signal.SIGSTOP)
    set_word(tmp_path, SHARED, 0)
    set_word(tmp_path, INSIDE, 1)
    with pytest.raises(StoreLocked, match=f"process {counter.pid} has been in the middle of"):
        Store(tmp_path, durability="os")


def test_who_joins_is_told_of_one_that_was_stopped_in_mid_write(tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "PATIENCE_S", 0.5)
    with Store(tmp_path, durability="os") as store:
        store.put(b"key", b"1")
        set_word(tmp_path, SHARED, 0)
        set_word(tmp_path, INSIDE, 1)
        with pytest.raises(StoreLocked, match=f"process {os.getpid()} has been in the middle of a"):
            Store(tmp_path)
        set_word(tmp_path, INSIDE, 0)
        store.put(b"key", b"2")
        with Store(tmp_path) as other:
            assert other[b"key"] == b"2"
