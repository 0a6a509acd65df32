"""delete_prefix deletes what begins with a prefix, nothing else, and counts exactly that."""

import pytest

import kvengine
from kvengine import Database, InvalidRequest, InvalidType, NamespaceNotFound, Store
from kvengine.testing.clock import ManualClock
from kvengine.testing.crashing import KeptDirectory
from kvengine.testing.faulty import FaultyDirectory

KEYS = ("a", "a/", "a/1", "a/2", "a/é", "a0", "b", "é/1", "\U0010ffff")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(clock):
    with kvengine.Database.in_memory(clock=clock) as opened:
        yield opened


@pytest.fixture
def kv(db):
    namespace = db.namespace("test")
    namespace.put_many(dict.fromkeys(KEYS, "value"))
    return namespace


def names(kv) -> list[str]:
    return [info.name for info in kv.list().keys]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/1", "é", "é/1", "\U0010ffff", "z", "k" * 600])
def test_what_is_deleted_is_counted(kv, prefix: str) -> None:
    matching = [key for key in KEYS if key.startswith(prefix)]
    assert kv.delete_prefix(prefix, dry_run=True) == len(matching)
    assert names(kv) == sorted(KEYS)
    assert kv.delete_prefix(prefix) == len(matching)
    assert names(kv) == sorted(set(KEYS) - set(matching))
    assert kv.delete_prefix(prefix) == 0


def test_neighbors_keep_their_keys(db, kv) -> None:
    before, after = db.namespace("before"), db.namespace("after")
    for other in (before, after):
        other.put("a", "mine")
    assert kv.delete_prefix("") == len(KEYS)
    assert before.get("a") == after.get("a") == "mine"
    assert db.namespace("test").get("a") is None


def test_an_expired_key_is_not_counted(kv, clock) -> None:
    kv.put("a/3", "value", expiration_ttl=10)
    assert kv.delete_prefix("a/", dry_run=True) == 5
    clock.advance(10)
    assert kv.delete_prefix("a/", dry_run=True) == 4
    assert kv.delete_prefix("a/") == 4


def test_a_key_that_another_deleted_meanwhile_is_not_counted(
    kv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.LOOK_AGAIN_KEYS", 1)
    kv.put_many({f"many/{number:02}": "" for number in range(20)})

    def progress(done: int, total: int) -> None:
        if done == 5:
            kv.delete_many([f"many/{number:02}" for number in range(4, 10)])  # one of them is gone

    assert kv.delete_prefix("many/", progress=progress) == 20 - 5
    assert kv.count("many/") == 0


def test_progress(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.LOOK_AGAIN_KEYS", 2)
    steps = []
    assert kv.delete_prefix("a", progress=lambda *step: steps.append(step)) == 6
    assert steps == [(2, 6), (4, 6), (6, 6), (6, 6)]
    steps.clear()
    kv.delete_prefix("a", progress=lambda *step: steps.append(step))
    assert steps == [(0, 0)]


def test_each_deleted_key_is_metered(kv) -> None:
    kv.delete_prefix("a/", dry_run=True)
    assert (kv._meter.deletes, kv._meter.lists) == (0, 1)
    kv.delete_prefix("a/")
    assert (kv._meter.deletes, kv._meter.lists) == (4, 1)


@pytest.mark.parametrize(
    ("prefix", "error"), [(None, InvalidType), (5, InvalidType), ("\ud800", InvalidRequest)]
)
def test_a_prefix_that_is_no_text(kv, prefix, error: type[Exception]) -> None:
    for dry_run in (True, False):
        with pytest.raises(error, match="prefix"):
            kv.delete_prefix(prefix, dry_run=dry_run)
    assert names(kv) == sorted(KEYS)


def test_a_namespace_that_is_deleted_meanwhile(db, kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.LOOK_AGAIN_KEYS", 2)
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        db.delete(kv.id)

    with pytest.raises(NamespaceNotFound, match="does not exist"):
        kv.delete_prefix("", progress=progress)
    assert calls == [2]
    db.wait_for_removals()
    assert list(db.store.keys(kv._prefix)) == []
    with pytest.raises(NamespaceNotFound):
        kv.delete_prefix("")


@pytest.mark.parametrize(("durability", "last"), [("group", "sync"), ("os", "write")])
def test_what_was_deleted_is_on_disk_at_the_end(durability: str, last: str) -> None:
    directory = FaultyDirectory(KeptDirectory())
    options = {"log_writes": "pwrite", "durability": durability, "compaction": "manual"}
    with Store._in_directory(directory, **options) as store:
        kv = Database(store).namespace("test")
        kv.put_many({"a": "1", "b": "2", "c": "3"})
        before = len(directory.steps)
        assert kv.delete_prefix("") == 3
        assert directory.steps[-1].operation == last
        assert sum(step.operation == "sync" for step in directory.steps[before:]) == (
            last == "sync"
        )
