"""A folder that is moved, removed or replaced under an open store (findings E1-E3).

Whatever happens to the path: an open store goes on in its own folder or refuses, and never touches
the store that is at the path by then.
"""

import contextlib
import errno
import logging
import os
import shutil

import pytest

from kvengine import StorageError, Store, StoreLocked, StoreReadOnly
from kvengine.engine import joining, store_folder

SMALL = {"segment_bytes": 16384, "key_buffer_entries": 64}
GONE = (StorageError, StoreReadOnly)
# The store may have looked when only a part of the folder was gone.
REMOVED = r"was removed (from the folder of the store )?while it was open"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def filled(path, count=400, **options):
    store = Store(path, **{**SMALL, **options})
    with store.batch() as batch:
        for number in range(count):
            batch.put(b"old%d" % number, bytes(100))
    return store


def everything(path):
    with Store(path, read_only=True) as store:
        return dict(store)


def remove(path):
    while path.exists():  # the store may make a file between the listing and the end of this
        shutil.rmtree(path, ignore_errors=True)


def move_away(path):
    path.rename(path.with_name("moved"))


def flip_link(path):
    """What deploys do: the path is a link to a release."""
    other = path.with_name("release2")
    link = path.with_name("link.new")
    link.symlink_to(other)
    os.replace(link, path)
    other.mkdir(0o700)


def follow(store):
    """Have a consumer of a store write down its place."""
    consumer = store.consumer("c")
    for change in consumer.changes():
        consumer.acknowledge(change.version)
        break


def use_hard(store):
    """Do everything that changes a folder; a refusal is right."""
    jobs = (
        store.compact,
        store.checkpoint,
        store.sync,
        lambda: [store.put(b"old%d" % number, bytes(200)) for number in range(300)],
        store.clear,
        lambda: follow(store),
    )
    for job in jobs:
        with contextlib.suppress(*GONE):
            job()


@pytest.mark.parametrize("durability", ["os", "interval", "group", "sync"])
@pytest.mark.parametrize("replace", [remove, move_away, flip_link])
def test_the_new_store_at_the_path_is_never_touched(path, durability, replace):
    if replace is flip_link:
        path.with_name("release1").mkdir(0o700)
        path.symlink_to(path.with_name("release1"))
    old = filled(path, durability=durability)
    replace(path)
    with Store(path, **SMALL) as new:
        for number in range(300):
            new.put(b"new%d" % number, b"1")
        before = everything(path)
        use_hard(old)
        old.close()
        new.compact()
        assert dict(new) == before
    assert everything(path) == before
    with Store(path, **SMALL, rebuild=True) as new:
        assert dict(new) == before
        assert new.verify().ok


def test_a_store_goes_on_in_a_folder_that_was_moved(path, tmp_path):
    model = {}
    with filled(path) as store:
        model.update(store)
        move_away(path)
        for number in range(2000):
            key, value = b"key%d" % (number % 150), b"%d" % number * 20
            store[key] = model[key] = value
            if number == 700:
                store.checkpoint()
        store.compact()
        with store.snapshot() as snapshot:
            assert dict(snapshot) == model
        store.backup(tmp_path / "backup")
        assert store.wait(store.version - 1) == store.version
        assert store.verify().ok
        assert store.stats().disk_bytes > 0
        assert str(path) in repr(store)
    assert not path.exists()
    assert everything(path.with_name("moved")) == model
    assert everything(tmp_path / "backup") == model


def test_a_store_that_was_moved_and_moved_back(path):
    with filled(path) as store:
        move_away(path)
        store[b"a"] = b"1"
        path.with_name("moved").rename(path)
        store[b"b"] = b"2"
        store.compact()
        expected = dict(store)
    assert everything(path) == expected


@pytest.mark.parametrize("segment_bytes", [SMALL["segment_bytes"], 64 << 20])
@pytest.mark.parametrize("durability", ["group", "sync"])
def test_no_put_is_reported_durable_in_a_folder_that_is_gone(path, durability, segment_bytes):
    """Whether it would begin a segment, or fits into what was allocated ahead."""
    store = filled(path, durability=durability, segment_bytes=segment_bytes)
    remove(path)
    with pytest.raises(GONE, match=REMOVED):
        store[b"key"] = b"value"
    with pytest.raises(StoreReadOnly, match=REMOVED):
        store[b"key"] = b"value"
    with pytest.raises(StoreReadOnly):
        store.compact()
    assert store[b"old1"] == bytes(100)
    assert store.stats().read_only
    store.close()
    assert not path.exists()


@pytest.mark.parametrize("segment_bytes", [SMALL["segment_bytes"], 64 << 20])
@pytest.mark.parametrize("durability", ["os", "interval"])
def test_a_log_does_not_grow_in_a_folder_that_is_gone(path, durability, segment_bytes):
    """Neither in a new segment, nor in the one that there is, which may have a long way to go."""
    store = filled(path, durability=durability, segment_bytes=segment_bytes, sync_interval_s=60)
    remove(path)
    with pytest.raises(GONE) as failure:
        for number in range(2000):
            store[b"%d" % number] = bytes(1000)
    assert str(path) in str(failure.value)
    with pytest.raises(StoreReadOnly):
        store[b"key"] = b"value"
    assert store[b"old1"] == bytes(100)
    assert len(list(store.scan(b"old"))) == 400
    store.close()
    assert not path.exists()


def test_a_folder_that_holds_another_store_is_left_alone(path, tmp_path):
    """Somebody empties the folder and restores a backup in it: the same folder, another store."""
    old = filled(path, durability="group")
    old.backup(tmp_path / "backup")
    old[b"after"] = b"the backup"
    for file in path.iterdir():
        file.unlink()
    shutil.copytree(tmp_path / "backup", path, dirs_exist_ok=True)
    names = {file.name: file.read_bytes() for file in path.iterdir()}
    # A job may have noticed first, while the folder was empty.
    with pytest.raises(GONE, match=r"now holds another store|was removed|No such file"):
        old[b"key"] = b"value"
    use_hard(old)
    old.backup(tmp_path / "copy") if old._parts.commits.failure is None else None
    old.close()
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.name in names} == names
    assert b"after" not in everything(path)
    assert everything(path) == everything(tmp_path / "backup")


def test_a_store_whose_manifest_was_removed_says_so(path):
    store = filled(path)
    (path / "MANIFEST").unlink()
    with pytest.raises(GONE, match="MANIFEST was removed"):
        store[b"key"] = b"value"
    store.close()


def test_closing_in_a_folder_that_is_gone_says_so_and_no_more(path, caplog):
    store = filled(path, durability="os")
    remove(path)
    with caplog.at_level(logging.WARNING, "kvengine"):
        store.close()
        store.close()
    assert "closed without saving the index" in caplog.text


def test_background_work_touches_nothing_of_another_store(path):
    old = filled(path, durability="os", compaction="auto")
    old._parts.end_active_segment()
    move_away(path)
    with Store(path, **SMALL) as new:
        new[b"precious"] = b"1"
        for number in range(400):
            old[b"old%d" % number] = bytes(100)
        old._parts.maintenance.wake()
        old.close()
        assert dict(new) == {b"precious": b"1"}
    assert everything(path) == {b"precious": b"1"}
    assert len(everything(path.with_name("moved"))) == 400


# -- the lock


def test_removing_the_lock_file_lets_no_second_writer_in(path):
    with filled(path) as store:
        (path / "LOCK").unlink()
        with pytest.raises(StoreLocked, match="open for writing"):
            Store(path, exclusive=True)
        assert store._parts.directory.lock_is_held()
        assert store._parts.directory.reader().lock_is_held()
        with Store(path, read_only=True) as reader:
            assert len(reader) == 400
        store[b"key"] = b"value"
    with Store(path) as store:
        assert store[b"key"] == b"value"


def test_a_folder_that_is_replaced_while_it_is_opened(path, monkeypatch):
    """The lock was taken in a folder that is not at the path any more."""
    filled(path).close()
    refuse = store_folder.refuse_other_folder

    def slow(directory, **options):
        refuse(directory, **options)
        move_away(path)
        path.mkdir(0o700)

    monkeypatch.setattr(joining, "refuse_other_folder", slow)
    with pytest.raises(StorageError, match="another folder is now at the path") as failure:
        Store(path)
    assert failure.value.errno == errno.ESTALE
    assert os.listdir(path) == []
    monkeypatch.undo()
    with Store(path.with_name("moved")) as store:
        assert len(store) == 400


# -- modes


def mode(path):
    return path.stat().st_mode & 0o777


def test_what_a_store_makes_is_for_its_owner_alone(path, tmp_path):
    old = os.umask(0)
    try:
        with filled(path) as store:
            store.compact()
            follow(store)
            store.backup(tmp_path / "a" / "backup")
    finally:
        os.umask(old)
    for folder in (path, tmp_path / "a" / "backup"):
        assert mode(folder) == 0o700
        assert {file.name: oct(mode(file)) for file in folder.iterdir()} == dict.fromkeys(
            os.listdir(folder), "0o600"
        )


def test_a_folder_that_was_there_keeps_its_mode_and_a_loose_one_is_warned_of(path, caplog):
    path.mkdir()
    path.chmod(0o755)
    with caplog.at_level(logging.WARNING, "kvengine"):
        for _ in range(2):
            Store(path).close()
    assert mode(path) == 0o755
    assert caplog.text.count(f"{path} has the mode 755") == 1
    caplog.clear()
    tight = path.with_name("tight")
    tight.mkdir(0o700)
    with caplog.at_level(logging.WARNING, "kvengine"):
        Store(tight).close()
    assert caplog.text == ""
