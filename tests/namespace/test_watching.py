"""Watchers see each change once, in order, and sleep in between; history is what the log has."""

import threading
import time

import pytest

import kvengine
from kvengine import Database, InvalidRequest, InvalidType, NamespaceNotFound, StoreClosed
from kvengine.testing.clock import ManualClock
from tests.waiting import meanwhile


@pytest.fixture
def db():
    with Database.in_memory(clock=ManualClock(1000.0)) as database:
        yield database


def in_background(call):
    """Run a call in a thread; return the thread and where its result will be."""
    found = []

    def run():
        try:
            found.append(call())
        except kvengine.KvError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_a_watcher_gets_changes_of_its_prefix_with_all_that_belongs_to_them(db):
    kv = db.namespace("flags")
    kv.put("checkout/a", "old")
    first = db.version
    kv.put("checkout/a", "on", metadata={"by": "eve"}, expiration_ttl=60)
    kv.put("search", "off")
    db.namespace("other").put("checkout/a", "x")
    kv.delete("checkout/a")
    found = list(kv.watch("checkout/", after=first, timeout=0))
    assert [change[1:] for change in found] == [
        ("put", "checkout/a", b"on", {"by": "eve"}, 1060),
        ("delete", "checkout/a", None, None, None),
    ]
    assert found[0].version < found[1].version


def test_without_after_only_what_comes_now_is_seen(db):
    kv = db.namespace("flags")
    kv.put("a", "1")
    watcher = kv.watch(timeout=30)
    kv.put("a", "2")
    assert next(watcher).value == b"2"


def test_a_waiting_watcher_is_woken_by_a_write(db):
    kv = db.namespace("flags")
    watcher = kv.watch()
    thread, found = in_background(lambda: next(watcher))
    kv.put("a", "1")
    thread.join(30)
    assert found[0].name == "a"


def test_many_changes_while_a_watcher_reads_arrive_complete_and_in_order(db):
    kv = db.namespace("numbers")
    watcher = kv.watch("n")

    def collect():
        return [next(watcher) for _ in range(2000)]

    thread, found = in_background(collect)
    for number in range(2000):
        kv.put(f"n{number:04d}", str(number))
        kv.put("other", "x")
    thread.join(60)
    names = [change.name for change in found[0]]
    assert names == [f"n{number:04d}" for number in range(2000)]
    versions = [change.version for change in found[0]]
    assert versions == sorted(set(versions))


def test_unrelated_changes_do_not_prolong_a_timeout(db):
    kv = db.namespace("flags")
    watcher = kv.watch("mine", timeout=0.2)

    def write():
        kv.put("other", "x")
        time.sleep(0.01)

    with meanwhile(write):
        assert list(watcher) == []


def test_deleting_the_namespace_ends_a_watcher_with_an_error(db):
    watcher = db.namespace("flags").watch()
    thread, found = in_background(lambda: next(watcher))
    db.delete("flags")
    thread.join(30)
    assert isinstance(found[0], NamespaceNotFound)


def test_closing_the_database_ends_a_watcher_with_an_error(db):
    watcher = db.namespace("flags").watch()
    thread, found = in_background(lambda: next(watcher))
    db.close()
    thread.join(30)
    assert isinstance(found[0], StoreClosed)


def test_a_reader_watches_a_writer_in_another_store(tmp_path):
    with kvengine.open(tmp_path / "db") as writer:
        kv = writer.namespace("flags")
        kv.put("a", "1")
        with kvengine.open(tmp_path / "db", read_only=True) as reader:
            watcher = reader.namespace("flags").watch(timeout=30)
            kv.put("a", "2")
            assert next(watcher).value == b"2"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"after": "1"}, InvalidRequest),
        ({"after": True}, InvalidRequest),
        ({"after": -1}, InvalidRequest),
        ({"timeout": -1}, InvalidRequest),
        ({"timeout": float("nan")}, InvalidRequest),
        ({"prefix": b"x"}, InvalidType),
    ],
)
def test_wrong_arguments_are_refused_at_once(db, arguments, error):
    with pytest.raises(error):
        db.namespace("flags").watch(**arguments)


def test_history_gives_the_past_of_one_key_until_it_is_compacted(tmp_path):
    with kvengine.open(tmp_path / "db", compaction="manual") as db:
        kv = db.namespace("notes")
        kv.put("a", "1")
        kv.put("ab", "other")
        kv.put("a", "2", metadata=[1])
        kv.delete("a")
        kv.put("a", "3")
        assert [(change.kind, change.value) for change in kv.history("a")] == [
            ("put", b"1"),
            ("put", b"2"),
            ("delete", None),
            ("put", b"3"),
        ]
        db.store.compact()
        assert [change.value for change in kv.history("a")][-1:] == [b"3"]
        assert list(kv.history("never")) == []


def test_the_tail_of_a_database_names_the_namespace_and_skips_deleted_ones(db):
    kept, gone = db.namespace("kept"), db.namespace("gone")
    kept.put("a", "1")
    gone.put("b", "2")
    kept.delete("a")
    db.delete("gone")
    found = list(db.tail())
    assert {change.namespace_id for change in found} == {kept.id}
    assert [(change.kind, change.name) for change in found] == [("put", "a"), ("delete", "a")]
    assert list(db.tail(found[0].version)) == found[1:]
    assert list(db.tail(follow=True, timeout=0)) == found
    with pytest.raises(InvalidRequest):
        db.tail(-1)
