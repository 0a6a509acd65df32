"""A disk that is really full: what makes room is not refused (finding E24)."""

import os

import pytest

import kvengine
from kvengine import StorageFull, Store
from kvengine.engine.log import reserve
from tests.mounting import small_disk

DISK_BYTES = 8 << 20


@pytest.fixture
def disk(tmp_path):
    """Return a folder on a file system of 8 MiB of its own; needs root."""
    with small_disk(tmp_path / "disk", DISK_BYTES) as folder:
        yield folder


def fill(store, size):
    """Put until the disk is full; return what is there."""
    model = {}
    with pytest.raises(StorageFull):
        for number in range(1 << 20):
            key, value = b"key%d" % number, os.urandom(size)
            store[key] = value
            model[key] = value
    return model


def is_refused(store, size):
    try:
        store[b"more"] = bytes(size)
    except StorageFull:
        return True
    del store[b"more"]
    return False


@pytest.mark.parametrize("compaction", ["auto", "manual"])
@pytest.mark.parametrize("size", [100, 1000, 20_000])
def test_deletes_and_compaction_make_room(disk, size, compaction):
    store = Store(disk / "store", durability="os", compaction=compaction)
    model = fill(store, size)
    rounds = 0
    while len(model) > 20:  # a quarter stays, then a quarter of that, ...
        rounds += 1
        assert rounds < 100
        gone = [key for number, key in enumerate(model) if number % 4]
        deleted = 0
        try:
            for key in gone:
                store.delete(key)
                del model[key]
                deleted += 1
        except StorageFull:
            assert deleted  # else nobody could ever make room
        assert store.compact() >= 0
        assert dict(store) == model
    assert not is_refused(store, 1 << 20)
    assert dict(store) == model
    assert store.verify().ok
    store.close()
    with Store(disk / "store") as store:
        assert dict(store) == model


@pytest.mark.parametrize("batch", [1, 500])
def test_everything_can_be_deleted(disk, batch):
    store = Store(disk / "store", durability="os")
    model = fill(store, 1000)
    keys = list(model)
    for start in range(0, len(keys), batch):
        with store.batch() as deletes:
            for key in keys[start : start + batch]:
                deletes.delete(key)
    assert len(store) == 0
    store.compact()
    assert store._parts.log_bytes() < DISK_BYTES // 8
    assert fill(store, 1000)
    store.close()


def test_puts_do_not_take_what_is_kept_for_deletes(disk):
    store = Store(disk / "store", durability="os", compaction="manual")
    model = fill(store, 1000)
    kept = (disk / "store" / "RESERVE").stat().st_blocks * 512
    assert kept >= reserve.wanted_bytes(store._parts.log_bytes()) // 2 > 0
    deleted = 0
    while (disk / "store" / "RESERVE").stat().st_blocks * 512 == kept:
        store.delete(b"key%d" % deleted)
        deleted += 1
    for _ in range(100):
        assert is_refused(store, 4096)
    assert store.delete(b"key%d" % deleted)
    store.close()
    with Store(disk / "store", compaction="manual") as store:
        assert len(store) == len(model) - deleted - 1
        assert is_refused(store, 4096)  # also for who opens it next
        for number in range(1000):
            store.delete(b"key%d" % number)
        store.compact()
        assert not is_refused(store, 4096)
    assert (disk / "store" / "RESERVE").stat().st_blocks * 512 >= kept // 2


def test_a_full_disk_loses_nothing_and_a_reader_sees_all(disk):
    store = Store(disk / "store", durability="group")
    model = fill(store, 3000)
    with Store(disk / "store", read_only=True) as reader:
        assert dict(reader) == model
    store.close()
    with Store(disk / "store") as store:
        assert dict(store) == model


def test_a_namespace_can_be_deleted(disk):
    """It takes a record that it is deleted, before the first of its keys makes room."""
    with kvengine.open(disk / "db", durability="os", compaction="manual") as db:
        kv, other = db.namespace("large"), db.namespace("other")
        other.put("a", "1")
        with pytest.raises(StorageFull):
            for number in range(1 << 20):
                kv.put(f"key{number}", os.urandom(1000))
        for size in (300, 30, 3):  # not a byte is left
            with pytest.raises(StorageFull):
                for number in range(1 << 20):
                    other.put(f"small{number}", os.urandom(size))
        with pytest.raises(StorageFull):
            db.namespace("another")
        db.delete("large")
        db.wait_for_removals()
        assert [info.title for info in db.namespaces()] == ["other"]
        db.store.compact()
        other.put("b", bytes(1 << 20))
        assert other.get("a") == "1"


def test_a_small_store_keeps_nothing_back(tmp_path):
    with Store(tmp_path / "store") as store:
        for number in range(50):
            store[b"key%d" % number] = bytes(1000)
        assert not (tmp_path / "store" / "RESERVE").exists()
        assert store.stats().disk_bytes < 200_000


def test_the_reserve_may_be_removed_by_anyone(tmp_path):
    path = tmp_path / "store"
    with Store(path, durability="os") as store:
        for number in range(2000):
            store[b"key%d" % number] = bytes(1000)
        (path / "RESERVE").unlink()
        store[b"key"] = bytes(4 << 20)
        store.delete(b"key1")
    with Store(path) as store:
        assert len(store) == 2000
        assert (path / "RESERVE").stat().st_size >= 1 << 18


def test_segments_are_small_on_a_small_disk(disk):
    with Store(disk / "store") as store:
        assert store._parts.options.segment_bytes == 256 << 10
    with Store(disk / "store", segment_bytes=4096) as store:
        assert store._parts.options.segment_bytes == 4096


def test_a_file_system_that_does_not_say_how_large_it_is(tmp_path, monkeypatch):
    real = os.fstatvfs

    def unknown(descriptor):
        found = list(real(descriptor))
        found[2:5] = (0, 0, 0)  # blocks: all, free, available
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "fstatvfs", unknown)
    with Store(tmp_path / "store", durability="os") as store:
        assert store._parts.options.segment_bytes == 64 << 20
        for number in range(4000):
            store[b"key%d" % number] = bytes(1000)
        assert not store._parts.is_disk_low
        assert (tmp_path / "store" / "RESERVE").exists()


def test_the_reserve_becomes_smaller_with_the_store(tmp_path):
    with Store(tmp_path / "store", durability="os", compaction="manual") as store:
        for number in range(4000):
            store[b"key%d" % number] = bytes(1000)
        assert (tmp_path / "store" / "RESERVE").exists()
        store.clear()
        store.compact()
        assert not (tmp_path / "store" / "RESERVE").exists()
        assert store.stats().disk_bytes < 200_000


def test_a_full_disk_is_full_for_every_process(disk):
    options = {"durability": "os", "compaction": "manual"}
    with Store(disk / "store", **options) as store, Store(disk / "store", **options) as other:
        model = fill(store, 1000)
        kept = (disk / "store" / "RESERVE").stat().st_blocks * 512
        deleted = 0
        while (disk / "store" / "RESERVE").stat().st_blocks * 512 == kept:
            store.delete(b"key%d" % deleted)
            deleted += 1
        left = (disk / "store" / "RESERVE").stat().st_blocks * 512
        assert kept // 3 < left < kept
        assert is_refused(other, 4096)
        with Store(disk / "store", **options) as third:
            assert is_refused(third, 4096)
        for number in range(deleted, len(model)):
            other.delete(b"key%d" % number)
        assert (disk / "store" / "RESERVE").stat().st_blocks * 512 == left  # for compaction
        other.compact()
        assert not is_refused(store, 4096)
        assert not is_refused(other, 4096)
        assert not (disk / "store" / "RESERVE").exists()  # nothing is left that would need one
