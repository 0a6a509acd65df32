"""A batch: written together or not at all, and owner of its bytes until then."""

import errno
import gc
import sys

import pytest

from kvengine import InvalidType, Store, StoreReadOnly, VersionConflict
from kvengine.errors import StorageError
from kvengine.file.memory import MemoryDirectory
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock
from kvengine.testing.faulty import FaultyDirectory


@pytest.fixture
def store():
    with Store.in_memory() as opened:
        yield opened
        check_store(opened)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000])
def test_all_changes_are_there_in_order(store, count):
    with store.batch() as batch:
        for number in range(count):
            batch.put(b"%d" % (number % 50), b"%d" % number, metadata=b"m%d" % number)
            assert len(batch) == number + 1
    assert batch.version == store.version == count
    for number in range(max(0, count - 50), count):
        entry = store.get_entry(b"%d" % (number % 50))
        assert (entry.value, entry.metadata) == (b"%d" % number, b"m%d" % number)
        assert entry.version == number + 1


def test_put_and_delete_of_one_key(store):
    store[b"a"] = b"before"
    with store.batch() as batch:
        batch.put(b"a", b"1")
        batch.delete(b"a")
        batch.put(b"b", b"1")
        batch.delete(b"absent")
        batch.delete(b"b")
        batch.put(b"b", b"2")
    assert dict(store) == {b"b": b"2"}
    assert store.version == 7


def test_one_delete_alone_is_as_delete():
    clock = ManualClock()
    with Store.in_memory(clock=clock) as store:
        store.put(b"a", b"1", expires_at=clock.time() + 1)
        clock.advance(2)
        with store.batch() as batch:
            batch.delete(b"a")  # has expired
        with store.batch() as batch:
            batch.delete(b"b")  # was never there
        assert (batch.version, store.version) == (1, 1)


def test_the_bytes_are_those_of_the_call(store):
    key, value, metadata = bytearray(b"key"), bytearray(b"value"), bytearray(b"about")
    batch = store.batch()
    batch.put(key, memoryview(value), metadata=metadata)
    batch.put(b"%d" % len(key), b"%d" % len(value) * 3)  # objects that only the batch holds
    key[:], value[:], metadata[:] = b"yek", b"eulav", b"tuoba"
    gc.collect()
    batch.commit()
    assert dict(store) == {b"key": b"value", b"3": b"555"}
    assert store.get_entry(b"key").metadata == b"about"


def test_a_batch_gives_back_what_it_held(store):
    held = [bytes(bytearray(text)) for text in (b"key 1", b"value 1", b"about 1")]
    key, value, metadata = held
    before = [sys.getrefcount(each) for each in held]
    batch = store.batch()
    for _ in range(40):
        batch.put(key, value, metadata=metadata)
    assert [sys.getrefcount(each) for each in held] == [count + 40 for count in before]
    batch.commit()
    batch.put(key, value, metadata=metadata)
    del batch
    dropped = store.batch()
    with pytest.raises(ZeroDivisionError), dropped:
        dropped.put(key, value, metadata=metadata)
        raise ZeroDivisionError
    assert [sys.getrefcount(each) for each in held] == before


def test_a_batch_can_be_used_again(store):
    batch = store.batch()
    assert batch.commit() == 0
    batch.put(b"a", b"1")
    assert batch.commit() == 1
    assert (len(batch), batch.size_bytes) == (0, 0)
    batch.delete(b"a")
    assert batch.commit() == 2
    assert dict(store) == {}


def test_a_batch_is_written_only_if_each_key_has_a_version():
    clock = ManualClock(1000.0)
    with Store.in_memory(clock=clock) as store:
        first = store.put(b"b", b"1")
        store.put(b"ended", b"1", expires_at=1000.5)
        clock.advance(1)
        for keys, wanted, found in (
            ((b"a", b"b"), 0, first),
            ((b"b", b"a"), first, 0),
            ((b"a", b"c", b"b"), 0, first),
        ):
            batch = store.batch()
            for key in keys:
                batch.put(key, b"2")
            with pytest.raises(VersionConflict) as caught:
                batch.commit(if_version=wanted)
            assert (caught.value.expected, caught.value.found) == (wanted, found)
            assert (len(batch), list(store), store.version) == (0, [b"b"], 2)
        batch.put(b"b", b"2")
        batch.put(b"b", b"3")  # compared with what was there before the batch
        assert batch.commit(if_version=first) == store.version
        batch.put(b"a", b"1")
        batch.put(b"ended", b"2")
        batch.delete(b"never")
        batch.commit(if_version=0)
        assert dict(store) == {b"a": b"1", b"b": b"3", b"ended": b"2"}
        batch.put(b"a", b"2")
        with pytest.raises(InvalidType):
            batch.commit(if_version="1")
        assert len(batch) == 0


def test_a_commit_that_fails_writes_nothing_and_leaves_nothing():
    directory = FaultyDirectory(MemoryDirectory())
    with Store._in_directory(directory, durability="os", log_writes="pwrite") as store:
        store[b"before"] = b"1"
        batch = store.batch()
        for number in range(300):
            batch.put(b"%d" % number, bytes(100))
        directory.fail(len(directory.steps) + 1, errno.EIO)
        with pytest.raises((StorageError, StoreReadOnly)):
            batch.commit()
        assert len(batch) == 0
        assert dict(store) == {b"before": b"1"}


def test_adding_to_a_batch_while_it_is_committed(store):
    """Two threads must not share a batch, but if they do, nothing breaks."""
    batch = store.batch()
    batch.put(b"a", b"1")
    store._parts.exclusively(lambda: batch.put(b"b", b"2"))
    batch.commit()
    assert dict(store) == {b"a": b"1", b"b": b"2"}
