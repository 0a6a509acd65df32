"""A position never outlives its changes unnoticed: it is durable after them, or known to be lost.

Other changes may get the versions that a consumer has acknowledged: after a power cut, a failed
sync, a backup that was restored.  It must not pass over them in silence.
"""

import errno
import json
import os

import pytest

from kvengine import CorruptData, InvalidRequest, LogCompacted, Store, StoreReadOnly
from kvengine.engine.index.hash import xxh3_64
from kvengine.file.local import LocalDirectory
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory


def versions(found):
    return [change.version for change in found]


def test_a_reader_makes_durable_what_its_consumer_acknowledges():
    """The writer may not have synced it: its position would survive a power cut, it would not."""
    folder = FaultyDirectory(KeptDirectory())
    with (
        Store._in_directory(folder, durability="os") as store,
        Store._in_directory(folder, read_only=True) as reader,
    ):
        for number in range(1, 4):
            store.put(b"%d" % number, b"")
            consumer = reader.consumer("far")
            assert versions(consumer.changes()) == [number]
            consumer.acknowledge(number)
            left = CrashedFolder(folder.recording, len(folder.steps))
            for seed in range(5):
                with Store._in_directory(left.folder("torn" if seed else "ordered", seed)) as again:
                    assert again.version == again.consumer("far").position == number


def lost_tail(tmp_path):
    """Make a store whose consumer acknowledged version 2, which the store lost; like a restore."""
    with Store(tmp_path / "a", durability="os") as store:
        store.put(b"a", b"")
        store.backup(tmp_path / "b")
        store.put(b"b", b"")
        consumer = store.consumer("one")
        list(consumer.changes())
        consumer.acknowledge(2)
    (tmp_path / "b/one.consumer").write_bytes((tmp_path / "a/one.consumer").read_bytes())
    return tmp_path / "b"


def test_a_position_of_lost_changes_is_not_gone_on_from(tmp_path):
    with Store(lost_tail(tmp_path)) as store, pytest.raises(LogCompacted):
        list(store.consumer("one").changes())


def test_other_changes_with_the_versions_that_were_acknowledged_are_not_passed_over(tmp_path):
    path = lost_tail(tmp_path)
    with Store(path) as store:
        store.update({b"other": b"", b"more": b""})
        assert store.version == 3
    with Store(path) as store:
        consumer = store.consumer("one")
        for read in (consumer.changes, consumer.batches, consumer._tail):
            with pytest.raises(LogCompacted, match=r"does not have version 2: .* from version 1"):
                list(read())
        with pytest.raises(InvalidRequest):
            consumer.acknowledge(3)
        assert consumer.position == 2
    with Store(path, read_only=True) as reader, pytest.raises(LogCompacted):
        list(reader.consumer("one").changes())
    with Store(path) as store:
        consumer = store.consumer("one")
        consumer.restart()
        assert versions(consumer.changes()) == [1, 2, 3]
        consumer.acknowledge(3)
    with Store(path) as store:
        assert list(store.consumer("one").changes()) == []


def test_what_a_reader_saw_and_the_writer_lost_is_not_acknowledged(tmp_path):
    """A sync failed: the writer shows less when it is opened again, and others come instead."""
    faulty = FaultyDirectory(LocalDirectory(str(tmp_path / "s")))
    store = Store._in_directory(faulty)
    store.put(b"a", b"1")
    reader = Store(tmp_path / "s", read_only=True)
    consumer = reader.consumer("far")
    following = reader._parts.tail_from(0, b"")
    faulty.fail(len(faulty.steps) + 2, errno.EIO)
    with pytest.raises(StoreReadOnly):
        store.put(b"a", b"lost")
    assert versions(consumer.changes()) == versions(following.changes()) == [1, 2]
    store.close()
    os.truncate(next((tmp_path / "s").glob("*.log")), 64 + size_of_first(tmp_path / "s"))
    with Store(tmp_path / "s") as again:
        assert again.version == 1
        assert reader[b"a"] == b"1"
        again.update({b"b": b"", b"c": b""})
        with pytest.raises(LogCompacted, match="does not have version 2"):
            consumer.acknowledge(2)
        with pytest.raises(LogCompacted, match="does not have version 2"):
            list(following.changes())
        assert dict(reader) == dict(again) == {b"a": b"1", b"b": b"", b"c": b""}
        assert versions(consumer.changes()) == [1, 2, 3]
        consumer.acknowledge(3)
    reader.close()


def size_of_first(path):
    """Return the size of the first record: all that is left of the log."""
    with Store(path.with_name("alike")) as store:
        store.put(b"a", b"1")
    return next(path.with_name("alike").glob("*.log")).stat().st_size - 64


def test_a_position_with_a_right_checksum_that_makes_no_sense_is_damage(tmp_path):
    with Store(tmp_path / "s") as store:
        store.consumer("one")
        path = tmp_path / "s/one.consumer"
        right = json.loads(path.read_bytes().split(b"\n")[0])
        for wrong in (
            [],
            {},
            {**right, "position": -1},
            {**right, "position": 1 << 48},
            {**right, "position": "1"},
            {**right, "position": None},
            {**right, "lost": 1.5},
            {**right, "seen_at": "now"},
            {**right, "uuid": 7},
            {**right, "name": 7},
            {**right, "more": 1},
        ):
            body = json.dumps(wrong).encode()
            path.write_bytes(body + b"\n%016x\n" % xxh3_64(body))
            with pytest.raises(CorruptData, match=r"one\.consumer"):
                store.consumer("one")
            with pytest.raises(CorruptData, match=r"one\.consumer"):
                store.consumers()
