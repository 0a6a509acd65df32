"""A snapshot is the database of one moment, whatever is written, deleted or compacted later."""

import pytest

import kvengine
from kvengine import Database, NamespaceNotFound, StoreReadOnly
from kvengine.testing.clock import ManualClock


@pytest.fixture(params=["memory", "disk"])
def db(request, tmp_path):
    clock = ManualClock(1000.0)
    if request.param == "memory":
        database = Database.in_memory(clock=clock)
    else:
        database = kvengine.open(tmp_path / "db", clock=clock)
    with database:
        yield database


def contents(kv):
    return {info.name: (kv.get(info.name), info.metadata) for info in kv.list().keys}


def test_later_changes_do_not_show(db):
    kv = db.namespace("a")
    kv.put_many({f"k{number}": str(number) for number in range(500)})
    before = contents(kv)
    with db.snapshot() as frozen:
        view = frozen.namespace("a")
        for number in range(0, 500, 2):
            kv.put(f"k{number}", "new", metadata=1)
        kv.delete("k1")
        kv.put("later", "x")
        db.store.compact()
        assert contents(view) == before
        assert view.get("later") is None
        assert view.count() == len(before)
        assert [info.name for info in view.list(prefix="k1").keys] == sorted(
            name for name in before if name.startswith("k1")
        )
    assert contents(kv) != before


def test_a_namespace_that_is_deleted_or_made_later(db):
    db.namespace("old").put("a", "1")
    with db.snapshot() as frozen:
        db.delete("old")
        db.namespace("new").put("b", "2")
        assert frozen.namespace("old").get("a") == "1"
        assert [info.title for info in frozen.namespaces()] == ["old"]
        with pytest.raises(NamespaceNotFound):
            frozen.namespace("new")


def test_nothing_can_be_written(db):
    db.namespace("a").put("k", "v")
    with db.snapshot() as frozen:
        view = frozen.namespace("a")
        for call in (
            lambda: view.put("k", "w"),
            lambda: view.delete("k"),
            lambda: view.increment("n"),
            lambda: view.touch("k", expiration_ttl=60),
            lambda: frozen.delete("a"),
            lambda: frozen.rename("a", "b"),
            lambda: frozen.create_namespace("c"),
        ):
            with pytest.raises(StoreReadOnly):
                call()
        assert view.get("k") == "v"
    assert db.namespace("a").get("k") == "v"


def test_keys_end_in_a_snapshot_too(db):
    kv = db.namespace("a")
    kv.put("k", "v", expiration_ttl=60)
    with db.snapshot() as frozen:
        db.clock.advance(59.5)
        assert frozen.namespace("a").get("k") == "v"
        db.clock.advance(0.5)
        assert frozen.namespace("a").get("k") is None


def test_reads_in_a_snapshot_are_counted_with_the_others(db):
    kv = db.namespace("a")
    kv.put("k", "v")
    with db.snapshot() as frozen:
        frozen.namespace("a").get("k")
    assert kv._meter.reads == 1


def test_many_snapshots_can_be_open_at_once(db):
    kv = db.namespace("a")
    frozen = []
    for number in range(20):
        kv.put("k", str(number))
        frozen.append(db.snapshot())
    assert [snapshot.namespace("a").get("k") for snapshot in frozen] == [
        str(number) for number in range(20)
    ]
    for snapshot in frozen:
        snapshot.close()
