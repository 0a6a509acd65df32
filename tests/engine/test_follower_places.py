"""A reader knows whether what it maps is still the store that was opened, and who writes to it.

What it was opened on may be moved, replaced, emptied or set back; and it may not be allowed to see
on which boot it runs.  It follows, or says why not: old data is never shown forever.
"""

import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvengine import StorageError, Store, StoreClosed
from kvengine.engine import joining, opening
from kvengine.engine.following import follower
from kvengine.engine.log import writer_page
from kvengine.engine.recovery import loading
from kvengine.file.local import LocalDirectory
from kvengine.testing.check import check_store

ROOT = Path(__file__).parents[2]
SMALL = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}
PATIENCE_S = 60


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def remade(path):
    shutil.rmtree(path)
    return Store(path)


def moved_away(path):
    path.rename(path.with_name("old"))
    return Store(path)


def restored(path):
    path.rename(path.with_name("old"))
    shutil.copytree(path.with_name("backup"), path)


def emptied(path):
    for file in path.iterdir():
        file.unlink()
    return Store(path)


def removed(path):
    shutil.rmtree(path)


def set_back(path):
    """As `cp` does it: into the files that are there."""
    for file in path.with_name("backup").iterdir():
        (path / file.name).write_bytes(file.read_bytes())


def another_manifest(path):
    with Store(path.with_name("other")) as other:
        other[b"key"] = b"of the other"
    (path / "MANIFEST").write_bytes((path.with_name("other") / "MANIFEST").read_bytes())


@pytest.mark.parametrize(
    "replace", [remade, moved_away, restored, emptied, removed, set_back, another_manifest]
)
@pytest.mark.parametrize("has_page", [True, False], ids=["used", "no-page"])
def test_a_reader_of_a_folder_that_was_replaced_says_so(path, replace, has_page):
    """Also one in which nobody ever wrote, as a backup: there is no control page."""
    with Store(path, **SMALL) as store:
        store[b"key"] = b"old"
        store.backup(path.with_name("backup"))
        store.checkpoint()
        store.checkpoint()
    if not has_page:
        (path / "CONTROL").unlink()
    reader = Store(path, read_only=True)
    assert reader[b"key"] == b"old"
    new = replace(path)
    end = time.monotonic() + PATIENCE_S
    with pytest.raises(StoreClosed, match="since it was opened: open it again"):
        while time.monotonic() < end:  # nobody writes; it notices by itself
            assert reader[b"key"] == b"old"
            time.sleep(0.01)
    with pytest.raises(StoreClosed, match="open it again"):
        reader.wait(0, 1)
    reader.close()
    if new is not None:
        new[b"key"] = b"new"
        with Store(path, read_only=True) as again:  # the advice works
            assert again[b"key"] == b"new"
        new.close()


def test_one_that_waits_says_so_too(path):
    Store(path).close()
    with Store(path, read_only=True) as reader:
        shutil.rmtree(path)
        with pytest.raises(StoreClosed, match="open it again"):
            reader.wait(1, PATIENCE_S)


def test_a_folder_that_was_moved_is_followed(path, monkeypatch):
    monkeypatch.setattr(follower, "CHECK_MS", 0)
    with Store(path, **SMALL) as store, Store(path, read_only=True) as reader:
        store[b"key"] = b"before"
        assert reader[b"key"] == b"before"
        path.rename(path.with_name("elsewhere"))
        for number in range(500):
            store[b"key"] = b"%d" % number * 20
            assert reader[b"key"] == b"%d" % number * 20
        store.compact()
        assert reader.version == store.version
        check_store(reader)


def test_a_reader_that_found_no_writer_follows_the_one_that_comes(path, tmp_path, monkeypatch):
    """A backup has no control page: nothing told the reader that a writer was there."""
    monkeypatch.setattr(follower, "CHECK_MS", 0)
    with Store(path) as store:
        store[b"key"] = b"old"
        store.backup(tmp_path / "copy")
    with Store(tmp_path / "copy", read_only=True) as reader:
        assert reader[b"key"] == b"old"
        assert reader.wait(1, 0.01) == 1
        with Store(tmp_path / "copy") as writer:
            writer[b"key"] = b"new"
            assert reader[b"key"] == b"new"
            writer[b"key"] = b"newer"
            assert reader.wait(2, PATIENCE_S) == 3
            assert reader[b"key"] == b"newer"


# -- without the id of the boot

WRITER = """
import secrets, sys
from kvengine.file import system
if sys.argv[2] == "blind":
    system._own_boot_id[:] = [secrets.randbits(64)]
from kvengine import Store
store = Store(sys.argv[1], durability="os")
for line in sys.stdin:
    print(store.put(b"key", line.strip().encode()), flush=True)
"""


class Writer:
    def __init__(self, path, sight="sees"):
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, sight],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def put(self, text):
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self, *, kill=False):
        if kill:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()


@pytest.fixture
def blind(monkeypatch):
    """As in a process that may not see /proc/sys: its boot id is made up."""
    made_up = secrets.randbits(64)
    for module in (joining, loading, writer_page):
        monkeypatch.setattr(module, "boot_id", lambda: made_up)


def test_a_reader_follows_that_can_not_read_the_boot_id(path, blind):
    writer = Writer(path)
    writer.put("0")
    with Store(path, read_only=True) as reader:
        for number in range(1, 50):
            writer.put(str(number))
            assert reader[b"key"] == b"%d" % number
        writer.end(kill=True)
        assert reader[b"key"] == b"49"
        writer = Writer(path)
        for number in range(50, 60):
            writer.put(str(number))
            assert reader[b"key"] == b"%d" % number
        writer.end()
        assert reader[b"key"] == b"59"


@pytest.mark.parametrize("kill", [False, True])
def test_it_follows_a_writer_that_comes_later(path, blind, kill):
    """When it was opened nobody wrote, so the page might have been of an earlier boot."""
    writer = Writer(path)
    writer.put("0")
    writer.end(kill=kill)
    with Store(path, read_only=True) as reader:
        assert reader[b"key"] == b"0"
        writer = Writer(path)
        writer.put("1")
        assert reader[b"key"] == b"1"
        writer.end()


def test_a_writer_that_can_not_read_the_boot_id_is_followed(path):
    writer = Writer(path, "blind")
    writer.put("0")
    with Store(path, read_only=True) as reader:
        for number in range(1, 20):
            writer.put(str(number))
            assert reader[b"key"] == b"%d" % number
        writer.end()
        writer = Writer(path, "blind")
        writer.put("20")
        assert reader[b"key"] == b"20"
        writer.end()


def test_a_writer_that_is_still_looking_for_the_end_is_not_taken_at_its_word(path, blind):
    """It holds the lock, but the page is what an earlier one left."""
    writer = Writer(path)
    writer.put("0")
    writer.end(kill=True)
    directory = LocalDirectory(str(path))
    assert not writer_page.open_page(directory).is_trusted()
    directory.lock()
    writer_page.open_control(directory, writable=True).prepare()
    assert not writer_page.open_page(directory).is_trusted()
    directory.close()
    writer = Writer(path)
    writer.put("1")
    directory = LocalDirectory(str(path))
    assert writer_page.open_page(directory).is_trusted()
    writer.end()
    assert not writer_page.open_page(directory).is_trusted()
    directory.close()


def test_a_writer_whose_page_was_removed_can_not_be_followed(path, monkeypatch):
    """A reader would show what it found forever."""
    monkeypatch.setattr(opening, "OPENING_LOOKS", 3)
    with Store(path, **SMALL) as store:
        store[b"key"] = b"value"
        (path / "CONTROL").unlink()
        with pytest.raises(StorageError, match=r"CONTROL was removed.* open it there again"):
            Store(path, read_only=True)
    with Store(path, **SMALL), Store(path, read_only=True) as reader:
        assert reader[b"key"] == b"value"
