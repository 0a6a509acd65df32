"""Those who wait for the disk at the same time share syncs, and depend on nobody for them.

The test holds the lock of the one that syncs for all, as another process would.
"""

import ctypes
import mmap
import threading
import time
from pathlib import Path

import pytest

from kvengine import Store

VERSION, DURABLE, ARRIVED, LED_SINCE, SYNC_LOCK = 3, 4, 41, 45, 56
libc = ctypes.CDLL(None)


class Page:
    """The control page of a store, and the lock on it."""

    def __init__(self, path):
        with open(path / "CONTROL", "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 4096)
        self.words = (ctypes.c_uint64 * 64).from_buffer(self.memory)
        self.lock = ctypes.byref(self.words, 8 * SYNC_LOCK)

    def __getitem__(self, word):
        return self.words[word]

    def __setitem__(self, word, value):
        self.words[word] = value


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as store:
        store.put(b"first", b"")
        yield store


@pytest.fixture
def page(store):
    page = Page(Path(store.path))
    assert libc.pthread_mutex_trylock(page.lock) == 0
    yield page
    assert libc.pthread_mutex_unlock(page.lock) == 0


def now_us():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_who_is_served_by_the_sync_of_another_is_not_expected_at_the_next(store, page):
    thread = threading.Thread(target=store.put, args=(b"key", b""))
    thread.start()
    while page[ARRIVED] == 0:
        time.sleep(0.001)
    page[DURABLE] = page[VERSION]
    thread.join()
    assert page[ARRIVED] == 0


def test_one_that_syncs_for_all_is_given_time(store, page):
    thread = threading.Thread(target=store.put, args=(b"key", b""))
    version = store.version
    thread.start()
    for _ in range(300):  # that is longer than anybody has patience
        page[LED_SINCE] = now_us()
        time.sleep(0.001)
    assert thread.is_alive()
    assert page[DURABLE] == version
    page[LED_SINCE] = 1  # it was stopped
    thread.join()
    assert page[DURABLE] == store.version == version + 1


def test_a_clock_that_is_ahead_stops_nobody(store, page):
    page[LED_SINCE] = now_us() + (1 << 50)
    assert store.put(b"key", b"") == page[DURABLE]


def test_who_syncs_says_since_when(tmp_path):
    with Store(tmp_path) as store:
        page = Page(tmp_path)
        seen = []
        store.put(b"first", b"")
        stopping = threading.Event()

        def look():
            while not stopping.is_set():
                seen.append(page[LED_SINCE])

        thread = threading.Thread(target=look)
        thread.start()
        before = now_us()
        for _ in range(2000):
            store.put(b"key", b"")
            if any(seen):
                break
        stopping.set()
        thread.join()
        assert page[LED_SINCE] == 0
        assert before <= next(since for since in seen if since) <= now_us()
