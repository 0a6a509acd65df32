"""Reads that wait for the disk let other threads run; reads from memory do not stop."""

import os
import sys
import threading
import time

import pytest

from kvengine import Store

KEYS = [b"%04d" % number for number in range(200)]
VALUE = bytes(8000)  # no two records share a page


def cold_store(path):
    """Open a store whose records are on disk and not in memory."""
    with Store(path, durability="os", compaction="manual") as store:
        store.update(dict.fromkeys(KEYS, VALUE))
        store.compact()
    del store  # with it go the mappings, which hold pages in memory
    opened = Store(path, read_only=True)
    for log in path.glob("*.log"):
        descriptor = os.open(log, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return opened


@pytest.fixture
def ticks():
    """Count how often another thread gets the GIL, which only a thread that lets go gives it."""
    counted = [0]
    done = threading.Event()

    def tick():
        while not done.is_set():
            counted[0] += 1
            time.sleep(0)

    before = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    thread.start()
    while not counted[0]:
        time.sleep(0.001)
    sys.setswitchinterval(100)  # nobody is made to let go
    try:
        yield counted
    finally:
        done.set()
        sys.setswitchinterval(before)
        thread.join()


def is_cold(path):
    """True if dropping pages works here: on tmpfs files are nowhere but in memory."""
    return os.statvfs(path).f_fsid != 0 and "tmpfs" not in mount_type(path)


def mount_type(path):
    best = ("", "")
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, place, kind, *_ = line.split()
            if str(path).startswith(place) and len(place) > len(best[0]):
                best = (place, kind)
    return best[1]


@pytest.mark.parametrize(
    "read",
    [
        lambda store, key: store.get(key),
        lambda store, key: store[key],
        lambda store, key: store.get_entry(key).value,
        lambda store, key: bytes(store.get_view(key)),
        lambda store, key: store.get_many([key])[0],
        lambda store, key: next(store.scan(key, limit=1)).value,
    ],
    ids=["get", "getitem", "get_entry", "get_view", "get_many", "scan"],
)
def test_a_cold_read_lets_others_run_and_a_warm_one_does_not(tmp_path, ticks, read):
    if not is_cold(tmp_path):
        pytest.skip(f"{tmp_path} is in memory: no read waits for a disk")
    cold = number = 0
    while cold < 4:  # on a busy machine the other thread may not get a processor meanwhile
        number += 1
        assert number < 100, f"{cold} reads let others run"
        with cold_store(tmp_path / str(number)) as store:
            before = ticks[0]
            assert read(store, KEYS[100]) == VALUE
            cold += ticks[0] > before
            store.get_many(KEYS)
            before = ticks[0]
            for key in KEYS:
                assert read(store, key) == VALUE
            assert ticks[0] == before


def test_checking_a_large_value_lets_others_run(ticks):
    with Store.in_memory() as store:
        store[b"large"] = bytes(16 << 20)
        for read in (store.get, store.get_view):
            before = ticks[0]
            for _ in range(20):
                assert len(read(b"large")) == 16 << 20
            assert ticks[0] > before


def test_passing_over_dead_keys_lets_others_run(ticks):
    with Store.in_memory(compaction="manual", key_buffer_entries=1 << 20) as store:
        store.update({b"%06d" % number: b"" for number in range(100_000)})
        store.clear()
        sys.setswitchinterval(0.0001)
        time.sleep(0.01)  # now the other thread waits no longer than that
        for scan in (store.keys, store.scan):
            most = 0
            for _ in range(20):
                before = ticks[0]
                assert list(scan(limit=1)) == []
                most = max(most, ticks[0] - before)
            assert most > 2
