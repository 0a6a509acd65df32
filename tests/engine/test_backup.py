"""A backup is the store as of one version: whole, a store of its own, and untouched by the source.

It can be made while threads write, of a store in memory, and by a reader beside the writer; it
shares the bytes of files that never change, where the file system can do that.
"""

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

from kvengine import CorruptData, InvalidRequest, Store, VersionConflict
from kvengine.testing.check import check_store
from kvengine.testing.crashing import KeptDirectory
from kvengine.testing.model import Model

SMALL = {"durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16}
MANUAL = {**SMALL, "compaction": "manual"}
MEMORY = Path("/dev/shm")


def fill(store, first=0, last=100):
    """Write, overwrite and delete, so that the store has every kind of file."""
    for number in range(first, last):
        store.put(b"key %03d" % number, b"%d" % number * 40, metadata=b"m" * (number % 5))
    for number in range(first, last, 7):
        store.delete(b"key %03d" % number)
    store.put(b"large", b"L" * 9000, expires_at=4e9 + last)


def entries(path):
    with Store(path, read_only=True) as store:
        return list(store.scan())


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store", **MANUAL) as opened:
        fill(opened)
        opened.checkpoint()
        fill(opened, 90, 130)
        yield opened


def test_a_copy_holds_every_entry_with_all_that_belongs_to_it(store, tmp_path):
    assert store.backup(tmp_path / "copy") == store.version
    expected = list(store.scan())
    for options in ({}, {"rebuild": True}):
        with Store(tmp_path / "copy", **MANUAL, **options) as copy:
            assert list(copy.scan()) == expected
            assert copy.version == store.version
            assert list(copy.tail()) == list(store.tail())
            check_store(copy)


@pytest.mark.parametrize("compaction", ["auto", "manual"])
def test_while_threads_write_a_copy_is_the_store_at_its_version(tmp_path, compaction):
    """Version by version what was written is known, so each copy can be compared."""
    model, copied = Model(), threading.Semaphore(0)
    options = {**SMALL, "segment_bytes": 32768, "compaction": compaction}
    with Store(tmp_path / "store", **options) as store:

        def write():
            for number in range(1600):
                if number % 200 == 199:
                    copied.acquire(timeout=60)  # so that there are changes for each copy
                with store.batch() as batch, model.batch() as twin:
                    for part in range(3):
                        key = b"%d" % ((number * 7 + part) % 60)
                        if number % 4 == part:
                            batch.delete(key)
                            twin.delete(key)
                        else:
                            batch.put(key, b"%d " % number * 20)
                            twin.put(key, b"%d " % number * 20)

        writer = threading.Thread(target=write)
        writer.start()
        versions = []
        for turn in range(8):
            while store.version <= sum(versions[-1:]) and writer.is_alive():
                time.sleep(0)
            versions.append(store.backup(tmp_path / f"copy {turn}"))
            copied.release()
        writer.join()
    assert versions == sorted(set(versions))
    for turn, version in enumerate(versions):
        assert version % 3 == 0  # no batch is cut
        then = Model()
        then._apply(model.history[:version])
        with Store(tmp_path / f"copy {turn}", **MANUAL) as copy:
            assert copy.version == version
            assert list(copy.scan()) == list(then.scan())
            check_store(copy)


# -- two stores


def test_what_happens_to_the_source_does_not_change_the_copy(store, tmp_path):
    store.backup(tmp_path / "copy")
    expected = list(store.scan())
    for happening in (
        lambda: fill(store, 0, 300),
        store.compact,
        store.clear,
        store.compact,
        store.close,
        lambda: shutil.rmtree(tmp_path / "store"),
    ):
        happening()
        assert entries(tmp_path / "copy") == expected
    with Store(tmp_path / "copy", **MANUAL) as copy:
        check_store(copy)


def test_what_happens_to_the_copy_does_not_change_the_source(store, tmp_path):
    store.backup(tmp_path / "copy")
    expected, version = list(store.scan()), store.version
    with Store(tmp_path / "copy", **MANUAL) as copy:
        for happening in (lambda: fill(copy, 0, 300), copy.compact, copy.clear, copy.compact):
            happening()
            assert list(store.scan()) == expected
        assert copy.version > version
    shutil.rmtree(tmp_path / "copy")
    check_store(store)
    assert store.put(b"more", b"") == version + 1
    store.close()
    assert [entry for entry in entries(tmp_path / "store") if entry.key != b"more"] == expected


def test_a_copy_of_a_copy(store, tmp_path):
    store.backup(tmp_path / "first")
    with Store(tmp_path / "first", **MANUAL) as first:
        first.put(b"only here", b"1")
        first.backup(tmp_path / "second")
    second = entries(tmp_path / "second")
    assert [entry for entry in second if entry.key != b"only here"] == list(store.scan())
    assert len(second) == len(store) + 1


# -- links and copies


def inodes(folder):
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def shared_names(one, other):
    first, second = inodes(one), inodes(other)
    return {name for name in second if second[name] == first.get(name)}


def test_files_that_never_change_are_links_and_the_others_are_not(store, tmp_path):
    store.checkpoint()  # closes what is full, should the background not have come to it yet
    store.backup(tmp_path / "copy")
    shared = shared_names(tmp_path / "store", tmp_path / "copy")
    open_segment = f"{store._parts.rows[-1].id:08x}.log"
    closed = {f"{row.id:08x}.log" for row in store._parts.rows if row.size_bytes is not None}
    assert len(closed) > 2
    assert {Path(name).suffix for name in shared} == {".log", ".index", ".keys"}
    assert closed <= shared
    assert not shared & {open_segment, "MANIFEST", "CONTROL", "LOCK"}
    assert "LOCK" not in inodes(tmp_path / "copy")


def check_full_copy(store, target):
    version = store.backup(target)
    assert {os.stat(path).st_nlink for path in target.iterdir()} == {1}
    expected = list(store.scan())
    store.clear()
    store.compact()
    assert entries(target) == expected
    with Store(target, **MANUAL) as copy:
        assert copy.version == version
        check_store(copy)


def test_where_links_are_refused_bytes_are_copied(store, tmp_path, monkeypatch):
    def refuse(source, target, **_):
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", refuse)
    check_full_copy(store, tmp_path / "copy")


@pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no /dev/shm")
def test_on_another_file_system_bytes_are_copied(store):
    if MEMORY.stat().st_dev == os.stat(store.path).st_dev:
        pytest.skip("/dev/shm is the same file system")
    folder = Path(tempfile.mkdtemp(prefix="kvengine-backup-", dir=MEMORY))
    try:
        check_full_copy(store, folder / "copy")
    finally:
        shutil.rmtree(folder)


def test_a_store_in_memory_is_copied_to_disk(tmp_path):
    with Store.in_memory(**MANUAL) as store:
        fill(store)
        store.checkpoint()
        fill(store, 80, 120)
        check_full_copy(store, tmp_path / "copy")


def test_an_empty_store(tmp_path):
    with Store(tmp_path / "store") as store:
        assert store.backup(tmp_path / "copy") == 0
    with Store(tmp_path / "copy") as copy:
        assert list(copy) == []
        assert copy.put(b"first", b"") == 1


# -- a reader beside the writer


def test_a_reader_copies_though_the_writer_replaces_every_file(store, tmp_path):
    """What it follows it can copy, whether the files still have names or not."""
    expected = list(store.scan())
    with Store(tmp_path / "store", read_only=True) as reader:

        def disturb(done, total):
            if store.get(b"later") is None:
                store.put(b"later", b"")
                store.clear()
                store.compact()

        version = reader.backup(tmp_path / "copy", disturb)
    assert list(store.scan()) == []
    assert list((tmp_path / "copy").glob("*.index")) == []  # gone before it could be linked
    assert entries(tmp_path / "copy") == expected
    with Store(tmp_path / "copy", **MANUAL) as copy:
        assert copy.version == version
        check_store(copy)


def test_a_reader_copies_what_it_has_followed(tmp_path):
    """The segment has grown since the reader opened it."""
    with Store(tmp_path / "store", durability="os") as store:
        store.put(b"first", b"1")
        with Store(tmp_path / "store", read_only=True) as reader:
            for number in range(500):
                store.put(b"%d" % number, b"v" * 100)
            assert reader.version == store.version
            assert reader.backup(tmp_path / "copy") == store.version
        assert entries(tmp_path / "copy") == list(store.scan())


# -- targets


def test_a_target_with_anything_in_it_is_refused_and_left_alone(store, tmp_path):
    store.backup(tmp_path / "copy")
    before = inodes(tmp_path / "copy")
    for target in (tmp_path / "copy", tmp_path / "store"):
        with pytest.raises(InvalidRequest, match=f"{target} is not empty; a backup needs a new"):
            store.backup(target)
    assert inodes(tmp_path / "copy") == before
    check_store(store)


def test_an_empty_folder_and_missing_parents_will_do(store, tmp_path):
    (tmp_path / "empty").mkdir()
    store.backup(tmp_path / "empty")
    store.backup(tmp_path / "a" / "b" / "c")
    assert entries(tmp_path / "empty") == entries(tmp_path / "a" / "b" / "c") == list(store.scan())


def test_a_copy_that_fails_is_no_store_and_the_source_goes_on(store, tmp_path):
    class Refusal(Exception):
        pass

    def refuse(done, total):
        raise Refusal

    with pytest.raises(Refusal):
        store.backup(tmp_path / "copy", refuse)
    assert inodes(tmp_path / "copy")
    with pytest.raises(CorruptData, match="expected a manifest, found none"):
        Store(tmp_path / "copy")
    store.put(b"more", b"")
    check_store(store)


def test_progress_grows_up_to_all_bytes(store, tmp_path):
    seen = []
    store.backup(tmp_path / "copy", lambda *figures: seen.append(figures))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) == store.stats().segments
    assert (
        seen[-1][0]
        == seen[-1][1]
        == sum(path.stat().st_size for path in (tmp_path / "copy").glob("*.log"))
    )


def test_files_that_a_job_replaces_meanwhile_stay_until_they_are_copied(store, tmp_path):
    """Segments, the saved index and key runs: the copy needs none of them made again."""
    expected, names = list(store.scan()), set(os.listdir(store.path))

    def progress(done, total):
        if done < total:
            fill(store, 0, 90)
            store.compact()
            assert names <= set(os.listdir(store.path))

    assert store.stats().segments > 2
    store.backup(tmp_path / "copy", progress)
    assert {name[-5:] for name in os.listdir(tmp_path / "copy")} >= {".keys", "index"}
    assert entries(tmp_path / "copy") == expected
    store.compact()
    assert not names & {name for name in os.listdir(store.path) if "." in name}


def test_a_source_that_is_a_directory_object(tmp_path):
    with Store._in_directory(KeptDirectory(), **MANUAL) as store:
        fill(store)
        store.checkpoint()
        store.backup(tmp_path / "copy")
        assert entries(tmp_path / "copy") == list(store.scan())


def test_a_large_record_in_room_that_another_process_has_made(tmp_path):
    path = tmp_path / "store"
    with Store(path, durability="os") as store, Store(path, durability="os") as other:
        store.put(b"key", b"1")
        with pytest.raises(VersionConflict):
            other.put(b"key", bytes(3_000_000), if_version=99)
        store.put(b"large", bytes(100_000))
        assert store.backup(tmp_path / "backup") == 2
        assert entries(tmp_path / "backup") == list(store.scan())


def test_records_that_came_while_another_thread_asked_how_large_the_file_is(tmp_path, monkeypatch):
    """A store that starts over does so, if its digest is to go along."""
    with Store(tmp_path / "store", durability="os") as store:
        store.put(b"key", b"1")
        size = store._parts.directory.size

        def write_meanwhile(name):
            monkeypatch.undo()
            found = size(name)
            store.put(b"large", bytes(100_000))
            return found

        monkeypatch.setattr(store._parts.directory, "size", write_meanwhile)
        store._parts.read_active(1)
        assert store.backup(tmp_path / "backup") == 2
        assert entries(tmp_path / "backup") == list(store.scan())
