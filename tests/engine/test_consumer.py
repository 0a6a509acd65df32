"""Named consumers: what was not acknowledged comes again, and deletes are kept for them."""

import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import pytest

import kvengine
from kvengine import (
    ConsumerInfo,
    CorruptData,
    InvalidRequest,
    LogCompacted,
    StorageError,
    Store,
    StoreBusy,
)
from kvengine.testing.clock import ManualClock
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual",
}  # fmt: skip


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    clock = ManualClock()
    if request.param == "memory":
        opened = Store.in_memory(**OPTIONS, clock=clock)
    else:
        opened = Store(tmp_path / "s", **OPTIONS, clock=clock)
    with opened:
        yield opened


def versions(found):
    return [change.version for change in found]


def test_what_was_not_acknowledged_comes_again(store):
    store.update({b"%d" % n: b"" for n in range(10)})
    consumer = store.consumer("search")
    assert versions(consumer.changes()) == list(range(1, 11))
    consumer.acknowledge(4)
    assert (consumer.name, consumer.position, consumer.lag) == ("search", 4, 6)
    assert versions(consumer.changes()) == list(range(5, 11))
    again = store.consumer("search")  # as after a crash
    assert list(map(versions, again.batches(4))) == [[5, 6, 7, 8], [9, 10]]
    again.acknowledge(10)
    assert list(consumer.batches()) == []
    assert consumer.lag == 0


def test_a_position_outlives_the_store_and_never_moves_back(tmp_path):
    with Store(tmp_path / "s") as store:
        store.update({b"a": b"", b"b": b"", b"c": b""})
        consumer = store.consumer("one")
        list(consumer.changes())
        consumer.acknowledge(2)
        consumer.acknowledge(1)
    with Store(tmp_path / "s") as store:
        assert store.consumer("one").position == 2


def test_only_what_was_given_out_can_be_acknowledged(store):
    store.update({b"a": b"", b"b": b""})
    consumer = store.consumer("one")
    with pytest.raises(InvalidRequest, match="was not given"):
        consumer.acknowledge(1)
    found = consumer.changes()
    next(found)
    consumer.acknowledge(1)
    with pytest.raises(InvalidRequest, match="only up to 1"):
        consumer.acknowledge(2)
    for wrong in (-1, True, "1"):
        with pytest.raises(InvalidRequest):
            consumer.acknowledge(wrong)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "..", "a.b", "ä", "x" * 65, b"a", None])
def test_names_are_those_of_files(store, name):
    with pytest.raises(InvalidRequest, match="name of a consumer"):
        store.consumer(name)
    assert store.consumers() == []


def test_the_list_and_removal(store):
    store.put(b"a", b"")
    second, first = store.consumer("b"), store.consumer("a")
    list(first.changes())
    store._parts.options.clock.advance(5)
    first.acknowledge(1)
    now = store._parts.options.clock.time()
    assert store.consumers() == [ConsumerInfo("a", 1, 0, now), ConsumerInfo("b", 0, 1, now - 5)]
    second.remove()
    second.remove()
    with pytest.raises(InvalidRequest, match="was removed"):
        list(second.changes())
    assert [info.name for info in store.consumers()] == ["a"]


def delete_and_forget(store, count=60):
    """Put and delete many keys, and give their space back if nobody needs the deletes."""
    for number in range(count):
        store.put(b"%d" % number, b"x" * 100)
    for number in range(count):
        store.delete(b"%d" % number)
    store.put(b"kept", b"")
    store.checkpoint()
    store.compact()


def test_deletes_are_kept_until_every_consumer_has_them(store):
    slow, quick = store.consumer("slow"), store.consumer("quick")
    delete_and_forget(store)
    deletes = [change for change in store.tail() if change.kind == "delete"]
    assert len(deletes) == 60
    list(quick.changes())
    quick.acknowledge(store.version)
    store.put(b"more", b"")
    store.checkpoint()
    store.compact()
    assert [change for change in slow.changes() if change.kind == "delete"] == deletes
    slow.acknowledge(store.version)
    store.put(b"more", b"")
    store.checkpoint()
    store.compact()
    assert all(change.kind == "put" for change in store.tail())


def test_one_that_does_not_come_forward_is_told_so_and_begins_anew(store):
    consumer = store.consumer("slow")
    store.put(b"0", b"")
    list(consumer.changes())
    consumer.acknowledge(1)
    store._parts.options.clock.advance(store._parts.options.retention_s + 1)
    delete_and_forget(store)
    with pytest.raises(LogCompacted):
        list(consumer.changes())
    with pytest.raises(LogCompacted):
        next(consumer.batches(follow=True))
    assert consumer.position == 1
    consumer.restart()
    assert consumer.position == 0
    assert [change.key for change in consumer.changes()] == [b"kept"]


def test_a_scan_from_the_beginning_goes_on_after_a_crash(store):
    delete_and_forget(store)
    store.update({b"new %d" % n: b"" for n in range(10)})
    assert store._parts.manifest.forgotten > 61
    whole = versions(store.tail())
    consumer = store.consumer("one")
    list(consumer.changes())
    consumer.acknowledge(5)  # below what is forgotten; but nothing was since it began
    assert versions(store.consumer("one").changes()) == whole
    consumer.restart()
    assert versions(consumer.changes()) == whole


def test_one_that_waits_with_everything_comes_forward(store):
    consumer = store.consumer("one")
    store.put(b"a", b"")
    list(consumer.changes())
    consumer.acknowledge(1)
    store._parts.options.clock.advance(store._parts.options.retention_s - 1)
    assert list(consumer.changes(follow=True, timeout=0.1)) == []
    assert store.consumers()[0].seen_at == store._parts.options.clock.time()


def test_following(store):
    consumer, found = store.consumer("one"), []
    thread = threading.Thread(
        target=lambda: found.extend(islice(consumer.changes(follow=True, timeout=30), 20))
    )
    thread.start()
    for number in range(20):
        store.put(b"%d" % number, b"")
    thread.join(30)
    assert versions(found) == list(range(1, 21))


def test_damage_is_an_error_and_nothing_is_forgotten(tmp_path):
    with Store(tmp_path / "s", **OPTIONS) as store:
        store.consumer("one")
        path = tmp_path / "s/one.consumer"
        data = path.read_bytes()
        for damaged in (b"", data[:-1], data.replace(b'"position":0', b'"position":9')):
            path.write_bytes(damaged)
            with pytest.raises(CorruptData, match=r"one\.consumer"):
                store.consumer("one")
        (tmp_path / "s/two.consumer").write_bytes(data)
        with pytest.raises(CorruptData, match="'one'"):
            store.consumer("two")
        delete_and_forget(store)
        assert store._parts.manifest.forgotten == 0


def test_a_crash_at_every_step_leaves_the_old_position_or_the_new_one():
    folder = FaultyDirectory(KeptDirectory())
    with Store._in_directory(folder) as store:
        store.update({b"a": b"", b"b": b""})
        consumer = store.consumer("one")
        list(consumer.changes())
        consumer.acknowledge(1)
        first = len(folder.steps)
        consumer.acknowledge(2)
        last = len(folder.steps)
    assert last > first
    for count in range(first, last + 1):
        for model in ("kill", "lost", "torn"):
            state = CrashedFolder(folder.recording, count).folder(model, count)
            with Store._in_directory(state) as store:
                assert store.consumer("one").position in ({2} if count == last else {1, 2})


def test_a_failure_of_the_disk_leaves_the_position():
    folder = FaultyDirectory(KeptDirectory())
    store = Store._in_directory(folder)
    store.put(b"a", b"")
    consumer = store.consumer("one")
    list(consumer.changes())
    folder.fail(len(folder.steps) + 1, 28)
    with pytest.raises(StorageError):
        consumer.acknowledge(1)
    assert consumer.position == 0
    consumer.acknowledge(1)
    assert consumer.position == 1
    store.close()


READER = """
import sys
from kvengine import Store
with Store(sys.argv[1], read_only=True) as store:
    consumer = store.consumer("far")
    for change in consumer.changes(follow=True, timeout=30):
        print(change.version, flush=True)
        if change.version % 2 == 0:
            consumer.acknowledge(change.version)
"""


def test_one_in_another_process_is_killed_and_goes_on(tmp_path):
    with Store(tmp_path / "s", durability="os") as store:
        store.update({b"%d" % n: b"" for n in range(5)})
        process = subprocess.Popen(
            [sys.executable, "-c", READER, tmp_path / "s"], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert [int(process.stdout.readline()) for _ in range(5)] == [1, 2, 3, 4, 5]
        process.kill()
        process.wait()
        process.stdout.close()
        assert store.consumers()[0].position == 4
        assert versions(store.consumer("far").changes()) == [5]
    with Store(tmp_path / "s") as store:  # what a writer finds, it leaves
        assert store.consumers()[0].position == 4


def test_who_acknowledges_while_it_acknowledges_is_told(store):
    """In a handler or a finalizer: it would wait for what it interrupted."""
    store.update({b"a": b"", b"b": b""})
    consumer = store.consumer("one")
    list(consumer.changes())
    found, original = [], store._parts.options.clock.time

    def interrupted():
        store._parts.options.clock.time = original
        try:
            consumer.acknowledge(2)
        except StoreBusy as error:
            found.append(str(error))
        return original()

    store._parts.options.clock.time = interrupted
    consumer.acknowledge(1)
    assert len(found) == 1
    assert "interrupted this very thread" in found[0]
    assert consumer.position == 1
    consumer.acknowledge(2)
    assert consumer.position == 2


def test_a_database_gives_what_its_tail_gives():
    with kvengine.Database.in_memory() as db:
        db.namespace("flags").put("dark", "on")
        db.namespace("other").put("x", "1")
        consumer = db.consumer("one")
        assert list(consumer.changes()) == list(db.tail())
        consumer.acknowledge(db.version)
        db.namespace("flags").delete("dark")
        assert [batch[0].kind for batch in consumer.batches()] == ["delete"]
        assert [info.name for info in db.consumers()] == ["one"]
