"""An exception at every line of what replicas, readers and edges do."""

import functools
import shutil
import time

import pytest

from kvengine import Database, Edge, Store
from kvengine.replication.follower import Follower
from kvengine.testing.check import check_store
from kvengine.testing.interrupting import Interruption
from tests.interrupt.points import TRIED, check_kind, check_nothing_leaks, points_of
from tests.interrupt.scenarios import SMALL, content, copy_of
from tests.replication.store_source import StoreSource

MOST = 60


@pytest.fixture
def source():
    with Store.in_memory(segment_bytes=4096, compaction="manual") as store:
        for n in range(80):
            store.put(b"key %03d" % (n % 50), b"%d" % n * 20)
        for n in range(0, 50, 7):
            store.delete(b"key %03d" % n)
        yield store


def follower_of(source, path):
    return Follower(StoreSource(source), path, background=False, **SMALL)


def finish(follower, source, where):
    """After an interruption the replica goes on, and comes to hold what the source holds."""
    follower.catch_up()
    assert content(follower.store) == content(source), where
    check_store(follower.store)


@pytest.mark.parametrize("call", ["open", "first catch up", "later catch up", "promote", "close"])
def test_a_replica(source, folder, call):
    path = folder / "replica"

    def begin():
        shutil.rmtree(path, ignore_errors=True)
        follower = follower_of(source, path)
        if call == "first catch up":
            return follower
        follower.catch_up()
        source.put(b"more", b"%d" % source.version)
        source.delete(b"key 003")
        if call == "open":
            follower.close()
            return None
        return follower

    def act(follower):
        if call == "open":
            follower_of(source, path).close()
        elif call == "promote":
            follower.promote()
        elif call == "close":
            follower.close()
        else:
            follower.catch_up()

    def points():
        follower = begin()
        yield from points_of(lambda: act(follower), MOST)
        if follower is not None:
            (follower.store if call == "promote" else follower).close()

    for at, error in list(points()):
        follower = begin()
        interruption = Interruption(at, error)
        raised = interruption.run(lambda: act(follower))  # noqa: B023  # called at once
        where = f"{call}, point {at}, {error.__name__} at {interruption.place}"
        check_kind(raised, error, where)
        raised = None
        if call == "promote":
            store = follower.promote()
            store.put(b"own", b"1")
            check_store(store)
            store.close()
            follower.close()
            with Store(path) as again:
                assert again.get(b"own") == b"1", where
                check_store(again)
            del store, again
        else:
            if follower is not None and call != "close":
                finish(follower, source, where)
            if follower is not None:
                follower.close()
            with follower_of(source, path) as again:
                finish(again, source, where)
            del again
        follower = None
        check_nothing_leaks(folder, where)
        TRIED["of a replica"] += 1


@pytest.mark.parametrize("kind", ["appended", "new segments", "compacted"])
def test_a_reader_beside_a_writer(template, folder, kind):
    """The reader is interrupted while it catches up; afterwards it shows what the writer has."""
    path = folder / "store"

    def begin():
        writer = Store(copy_of(template, path), durability="os", **SMALL)
        reader = Store(path, read_only=True)
        for n in range(3 if kind == "appended" else 60):
            writer.put(b"more %d" % n, b"m" * 100)
        writer.delete(b"late 001")
        if kind == "compacted":
            writer.compact()
            writer.put(b"after", b"1")
        return writer, reader

    def points():
        writer, reader = begin()
        yield from points_of(lambda: content(reader), MOST)
        reader.close()
        writer.close()

    for at, error in list(points()):
        writer, reader = begin()
        interruption = Interruption(at, error)
        raised = interruption.run(functools.partial(content, reader))
        where = f"{kind}, point {at}, {error.__name__} at {interruption.place}"
        check_kind(raised, error, where)
        raised = None
        assert content(reader) == content(writer), where
        writer.put(b"news", b"1")
        assert reader.get(b"news") == b"1", where
        check_store(reader)
        reader.close()
        writer.close()
        del reader, writer
        TRIED["of a reader"] += 1
    check_nothing_leaks(folder, kind)


EDGE_CALLS = {
    "get": lambda kv: kv.get("a"),
    "get absent": lambda kv: kv.get("none"),
    "get_many": lambda kv: kv.get_many(["a", "b", "none"]),
    "put": lambda kv: kv.put("a", "changed"),
    "put_many": lambda kv: kv.put_many({"a": "changed", "c": "new"}),
    "increment": lambda kv: kv.increment("n", 5),
    "delete": lambda kv: kv.delete("a"),
    "delete_prefix": lambda kv: kv.delete_prefix("a"),
    "list": lambda kv: kv.list(),
}


def until(read, wanted, seconds=10):
    """Return what is read when it is what is wanted, at the latest after a time.

    A write that was interrupted is news of another place: it comes with the log.
    """
    end = time.monotonic() + seconds
    while (found := read()) != wanted and time.monotonic() < end:
        time.sleep(0.001)
    return found


@pytest.mark.parametrize("call", EDGE_CALLS)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_an_edge(call, warm):
    """Whatever was interrupted: the edge shows what the database holds; own writes are read."""

    def begin():
        db = Database.in_memory()
        kv = db.namespace("n")
        kv.put_many({"a": "1", "b": "2", "n": "1"})
        edge = Edge(db, timeout_s=5)
        at_edge = edge.namespace("n")
        if warm:
            at_edge.get_many(["a", "b", "n", "none"])
        return db, edge, at_edge

    def points():
        db, edge, at_edge = begin()
        yield from points_of(lambda: EDGE_CALLS[call](at_edge), MOST // 2)
        edge.close()
        db.close()

    for at, error in list(points()):
        db, edge, at_edge = begin()
        interruption = Interruption(at, error)
        raised = interruption.run(lambda: EDGE_CALLS[call](at_edge))  # noqa: B023
        where = f"{call}, point {at}, {error.__name__} at {interruption.place}"
        check_kind(raised, error, where)
        kv = db.namespace("n")
        for key in ("a", "b", "c", "n", "none"):
            newest = kv.get(key)
            assert until(lambda: at_edge.get(key), newest) == newest, where  # noqa: B023
        at_edge.put("a", "own")
        assert at_edge.get("a") == "own", where
        at_edge.delete("a")
        assert at_edge.get("a") is None, where
        edge.close()
        db.close()
        TRIED["of an edge"] += 1
