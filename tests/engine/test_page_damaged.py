"""The page that processes share is written over, or replaced by a copy, while they have it open."""

import shutil
import subprocess
import sys

import pytest

from kvengine import StorageError, Store
from kvengine.engine import opening
from kvengine.testing.check import check_store

OPTIONS = {"segment_bytes": 16384}


def test_a_copy_of_the_page_in_its_place_is_refused_beside_others(tmp_path, monkeypatch):
    """Who used it would write where the others do, without their pen."""
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
        print(type(error).__name__, "another program has written" in str(error))
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
    """All of it, or a word: next_id, version, segment, floor, generation.

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
