"""The page that processes share is written over, or replaced by a copy, while they have it open."""

import contextlib
import errno
import shutil
import subprocess
import sys

import pytest

from kvengine import StorageError, Store
from kvengine.engine import opening
from kvengine.testing.check import check_store

OPTIONS = {"segment_bytes": 16384}


def test_a_copy_of_the_page_in_its_place_is_refused_beside_others(tmp_path, monkeypatch):
    """Who used it would write where the others do, without their write lock."""
    monkeypatch.setattr(opening, "OPENING_LOOKS", 3)
    with Store(tmp_path, **OPTIONS) as store:
        store.put(b"key", b"1")
        shutil.copy2(tmp_path / "CONTROL", tmp_path / "copy")
        (tmp_path / "copy").replace(tmp_path / "CONTROL")
        for options in ({}, {"read_only": True}):
            with pytest.raises(StorageError, match=r"CONTROL.*replaced"):
                Store(tmp_path, **OPTIONS, **options)
    for options in ({"read_only": True}, {}):
        with Store(tmp_path, **OPTIONS, **options) as store:
            assert store.get(b"key") == b"1"


MUTEX = """
import ctypes, mmap, os, sys
with open(sys.argv[1] + "/CONTROL", "r+b") as file:
    page = mmap.mmap(file.fileno(), 4096)
mutex = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page)) + int(sys.argv[2]))
library = ctypes.CDLL(None)
if os.fork() == 0:
    library.pthread_mutex_lock(mutex)
    os._exit(0)
os.wait()
assert library.pthread_mutex_lock(mutex) == errno.EOWNERDEAD
library.pthread_mutex_unlock(mutex)  # and did not say that what it guards is right
""".replace("errno.EOWNERDEAD", str(errno.EOWNERDEAD))


def test_a_write_lock_that_is_not_recoverable_is_reported_to_all(tmp_path):
    """By each write: the C library says so to the first one, and that it is taken to the others."""
    store, other = Store(tmp_path, **OPTIONS), Store(tmp_path, **OPTIONS)
    assert (store.put(b"key", b"1"), other.put(b"key", b"2")) == (1, 2)
    subprocess.run([sys.executable, "-c", MUTEX, str(tmp_path), "384"], check=True, timeout=30)
    for one in (store, other, store, other):
        with pytest.raises(StorageError, match=r"close .* in all"):
            one.put(b"never", b"written")
    with pytest.raises(StorageError, match="CONTROL"):
        Store(tmp_path)
    for one in (store, other):
        with contextlib.suppress(StorageError):
            one.close()
    with Store(tmp_path, **OPTIONS) as store, Store(tmp_path, **OPTIONS) as other:
        assert other.put(b"more", b"3") == 3
        assert {*store} == {b"key", b"more"}
        check_store(store)


@pytest.mark.parametrize("durability", ["group", "sync"])
def test_a_lock_of_syncs_that_is_not_recoverable_stops_nobody(tmp_path, durability):
    with Store(tmp_path, **OPTIONS) as store, Store(tmp_path, **OPTIONS) as other:
        other.put(b"key", b"1")
        subprocess.run([sys.executable, "-c", MUTEX, str(tmp_path), "448"], check=True, timeout=30)
        for one in (store, other, store, other):
            version = one.put(b"key", b"value", durability=durability)
            assert one._parts.control_page is not None
            assert one._parts.control_page.durable_version == version


WRITTEN_OVER = """
import mmap, random, sys
from kvengine import KvError, Store
store = Store(sys.argv[1], segment_bytes=4096, durability="os")
other = Store(sys.argv[1])
for number in range(100):
    store.put(b"%d" % (number % 10), bytes(500))
store.compact()  # so that ids of files that are given again are free
with open(sys.argv[1] + "/CONTROL", "r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
kind, number = sys.argv[2].split()
if kind == "random":
    words.cast("B")[:] = random.Random(int(number)).randbytes(4096)
else:
    for word in range(512) if kind == "zeros" else (int(number),):
        words[word] = 0
for call in (store.compact, lambda: [store.put(b"a", bytes(500)) for _ in range(30)]):
    try:
        call()
    except KvError as error:
        print(type(error).__name__, "another program has overwritten" in str(error))
for one in (store, other):
    try:
        one.close()
    except KvError as error:
        print(error)
"""


@pytest.mark.parametrize(
    "change",
    ["zeros 0", "word 22", "word 3", "word 18", "word 21", "word 5", "random 4", "random 8"],
)
def test_a_page_that_is_written_over_loses_nothing_and_no_time(tmp_path, change):
    """All of it, or a word: next_id, version, segment, min_segment, generation.

    Of the random ones the first has a mutex that is never free, the second an impossible error.
    """
    done = subprocess.run(
        [sys.executable, "-c", WRITTEN_OVER, str(tmp_path), change],
        check=True, capture_output=True, timeout=30, text=True,
    )  # fmt: skip
    assert change not in {"zeros 0", "word 22"} or "StorageError True" in done.stdout, done.stderr
    with Store(tmp_path, **OPTIONS) as store:
        assert {*store} >= {b"%d" % number for number in range(10)}
        check_store(store)
