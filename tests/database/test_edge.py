"""Edges in one process: real threads, real time, the interface of a namespace."""

import threading
import time
from types import SimpleNamespace

import pytest

from kvengine import (
    Database,
    Edge,
    InvalidRequest,
    InvalidType,
    NamespaceNotFound,
    StoreClosed,
    StoreLocked,
    ValueWithMetadata,
)


@pytest.fixture
def db():
    with Database.in_memory() as opened:
        yield opened


@pytest.fixture
def edge(db):
    with Edge(db, name="fra") as opened:
        yield opened


def until(condition, seconds=10.0):
    """Wait for what happens in another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_reads_are_those_of_the_database_then_of_the_edge(db, edge):
    db.namespace("n").put("k", "v", metadata={"a": 1}, expiration_ttl=1000)
    kv = edge.namespace("n")
    first, second = kv.read("k"), kv.read("k")
    assert (first.cache_status, second.cache_status) == ("MISS", "HIT")
    assert first[:4] == second[:4] == ("v", {"a": 1}, int(first.expiration), db.version - 0)
    assert kv.get_with_metadata("k") == ValueWithMetadata("v", {"a": 1}, "HIT", first.version)
    assert kv.read("none")[:4] == (None, None, None, 0)
    assert "k" in kv
    assert "none" not in kv


def test_types(db, edge):
    kv = edge.namespace("n")
    kv.put("k", {"a": [1]}, type="json")
    assert kv.get("k") == '{"a":[1]}'
    assert kv.get("k", "bytes") == b'{"a":[1]}'
    assert kv.get("k", "json") == {"a": [1]}
    assert kv.get("k", "stream").read() == b'{"a":[1]}'
    kv.put("b", b"\xff")
    assert kv.get("b") == "\ufffd"
    with pytest.raises(InvalidRequest, match="JSON"):
        kv.get("b", "json")
    with pytest.raises(InvalidRequest, match="Unknown response type"):
        kv.get("k", "xml")


def test_many_keys_are_asked_at_once(edge, monkeypatch):
    kv = edge.namespace("n")
    kv.put_many({f"k{n}": str(n) for n in range(100)})
    wanted = [f"k{n}" for n in range(100)]
    expected = {key: key[1:] if int(key[1:]) < 95 else None for key in wanted}
    kv.delete_many(wanted[95:])
    primary, asked = edge._node._upstream, []

    def fetch(wants, done):
        asked.append(len(wants))
        primary.fetch(wants, done)

    upstream = SimpleNamespace(
        fetch=fetch, poll=primary.poll, origin_version=primary.origin_version
    )
    monkeypatch.setattr(edge._node, "_upstream", upstream)
    assert kv.get_many(wanted) == kv.get(wanted) == expected
    assert asked.count(100) == 1
    assert set(asked) <= {1, 5, 100}  # the record of the namespace, and what is absent


def test_a_change_comes_within_moments(db, edge):
    origin, kv = db.namespace("n"), edge.namespace("n")
    origin.put("k", "old")
    assert kv.get("k") == "old"
    origin.put("k", "new")
    until(lambda: kv.get("k") == "new")
    assert kv.read("k").cache_status == "HIT"
    origin.delete("k")
    until(lambda: kv.get("k") is None)
    origin.put("k", "x" * 10_000)  # too large to come with the changes
    assert kv.get("k") == "x" * 10_000
    assert edge.stats().counters.propagation.count >= 3


def test_who_writes_reads_what_was_written(db, edge):
    kv = edge.namespace("n")
    with Edge(edge, name="leaf") as leaf:
        other = leaf.namespace("n")
        for number in range(300):
            writer, reader = (kv, other) if number % 2 else (other, kv)
            version = writer.put("k", str(number))
            assert writer.get("k") == str(number)
            assert reader.get("k", min_version=version) == str(number)
        other.delete("k")
        assert other.get("k") is None
        other.put_many({"k": "many"})
        assert other.get("k") == "many"
        assert other.increment("n") == 1
        assert other.get("n") == "1"
        assert other.touch("k", expiration_ttl=100) > 0
        assert other.read("k").expiration is not None
        assert other.delete_prefix("k") == 1
        assert other.get("k") is None
        assert other.delete_many(["n"]).ok
        assert other.get("n") is None
        assert other.get_or_set("made", lambda: "made") == "made"
        assert db.namespace("n").get("made") == "made"


def test_new_keys_are_there_at_once(db, edge):
    origin, kv = db.namespace("n"), edge.namespace("n")
    for number in range(200):
        assert kv.get(f"k{number}") is None
        origin.put(f"k{number}", "v")
        assert kv.get(f"k{number}") == "v"


def test_lists_are_as_fresh_as_reads(db, edge):
    origin, kv = db.namespace("n"), edge.namespace("n")
    origin.put("a", "1")
    assert [info.name for info in kv.list().keys] == ["a"]
    origin.delete("a")
    assert kv.list().keys == []
    origin.put("b", "1")
    assert [info.name for info in kv.keys("b")] == ["b"]
    assert kv.count() == 1


def test_always_current_shows_every_acknowledged_write(db):
    origin = db.namespace("n")
    with Edge(db, always_current=True) as edge:
        kv = edge.namespace("n")
        for number in range(500):
            origin.put("k", str(number))
            assert kv.get("k") == str(number)
        hits = edge.stats().counters.memory_hits
        until(lambda: kv.read("k").cache_status == "HIT")
        assert edge.stats().counters.memory_hits > hits
        with pytest.raises(InvalidRequest, match="always_current"):
            Edge(edge, always_current=True)


def test_a_deleted_namespace_answers_no_more(db, edge):
    kv = edge.namespace("n")
    kv.put("k", "v")
    assert kv.get("k") == "v"
    db.delete("n")

    def is_gone():
        try:
            kv.get("k")
        except NamespaceNotFound:
            return True
        return False

    until(is_gone)
    again = edge.namespace("n")
    assert again.id != kv.id
    assert again.get("k") is None


def test_threads_never_see_a_value_go_back(db, edge):
    origin, kv, stop = db.namespace("n"), edge.namespace("n"), threading.Event()
    origin.put("k", "0")
    wrong: list[tuple[int, int]] = []

    def read():
        last = 0
        while not stop.is_set():
            found = int(kv.get("k"))
            if found < last:
                wrong.append((last, found))
            last = found

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 2000):
        origin.put("k", str(number))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    until(lambda: kv.get("k") == "1999")


def test_copies_on_disk_survive_and_what_changed_meanwhile_is_known(db, tmp_path):
    origin = db.namespace("n")
    for number in range(50):
        origin.put(f"k{number}", f"v{number}")
    with Edge(db, path=tmp_path / "disk") as edge:
        kv = edge.namespace("n")
        assert len(kv.get_many([f"k{number}" for number in range(50)])) == 50
        with pytest.raises(StoreLocked):
            Edge(db, path=tmp_path / "disk")
    origin.put("k1", "changed")
    origin.delete("k2")
    with Edge(db, path=tmp_path / "disk") as edge:
        kv = edge.namespace("n")
        until(lambda: edge.stats().lag_seconds < 60)
        assert (kv.get("k1"), kv.get("k2"), kv.get("k3")) == ("changed", None, "v3")
        assert kv.read("k4").cache_status == "HIT"
        assert edge.stats().counters.disk_hits >= 2


def test_stats(db, edge):
    kv = edge.namespace("n")
    kv.put("k", "v")
    kv.get("k")
    kv.get("k")
    until(lambda: edge.stats().position == db.version)
    stats = edge.stats()
    assert (stats.name, stats.lag_versions, stats.connected) == ("fra", 0, True)
    assert stats.lag_seconds < 10
    assert stats.memory_bytes > 0
    assert stats.counters.memory_hits >= 1


def test_reads_are_counted_as_those_of_the_namespace(db, edge):
    kv = edge.namespace("n")
    kv.put("k", "v")
    before = db.usage("n").counts.reads
    for _ in range(5):
        kv.get("k")
    kv.get_many(["k", "x"])
    assert db.usage("n").counts.reads == before + 7


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda kv: kv.get("k", cache_ttl=-1), "cache_ttl"),
        (lambda kv: kv.get("k", cache_ttl=1.5), "cache_ttl"),
        (lambda kv: kv.get("k", min_version=-1), "min_version must be a version"),
        (lambda kv: kv.get("k", stale_if_error="x"), "stale_if_error must be a number"),
        (lambda kv: kv.get(""), "empty"),
        (lambda kv: kv.get(5), "key"),
    ],
)
def test_bad_calls_are_refused(edge, call, said):
    with pytest.raises(InvalidRequest, match=said):
        call(edge.namespace("n"))


def test_bad_edges_are_refused(db):
    with pytest.raises(InvalidType, match="the upstream must be a Database or an Edge"):
        Edge(b"db")
    with pytest.raises(InvalidRequest, match="give a URL"):
        Edge("db")
    with pytest.raises(InvalidRequest, match="bound_s must be between"):
        Edge(db, bound_s=-5)


def test_a_closed_edge_says_so_and_leaves_no_thread(db):
    before = set(threading.enumerate())
    edge = Edge(db)
    kv = edge.namespace("n")
    kv.put("k", "v")
    kv.get("k")
    edge.close()
    edge.close()
    assert edge.closed
    for call in (lambda: kv.get("k"), lambda: edge.namespace("n")):
        with pytest.raises(StoreClosed):
            call()
    db.close()
    assert set(threading.enumerate()) <= before
