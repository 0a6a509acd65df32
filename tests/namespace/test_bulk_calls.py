"""put_many and delete_many: limits of a call, what is written when, and who sees it."""

import dataclasses
import itertools

import pytest

import kvengine
from kvengine import InvalidRequest, LimitExceeded, NamespaceNotFound, StoreReadOnly


@pytest.fixture
def db():
    with kvengine.Database.in_memory() as opened:
        yield opened


@pytest.fixture
def kv(db):
    return db.namespace("test")


def contents(kv) -> dict:
    return kv.get_many([info.name for info in kv.list().keys])


# -- limits of a call


@pytest.fixture
def small():
    limits = dataclasses.replace(kvengine.RELAXED, bulk_pairs=4, bulk_bytes=100)
    with kvengine.Database.in_memory(limits=limits) as db:
        yield db.namespace("test")


@pytest.mark.parametrize("atomic", [True, False])
def test_too_many_pairs(small, atomic: bool) -> None:
    assert small.put_many([("key", "")] * 4, atomic=atomic).successful_key_count == 4
    assert small.delete_many(["key"] * 4, atomic=atomic).successful_key_count == 4
    for call, endless in (
        (small.put_many, ((str(number), "") for number in itertools.count())),
        (small.delete_many, map(str, itertools.count())),
    ):
        with pytest.raises(LimitExceeded, match="at most 4 pairs or keys") as caught:
            call(endless, atomic=atomic)
        assert caught.value.status == 413
    assert contents(small) == {}


@pytest.mark.parametrize("atomic", [True, False])
def test_too_many_bytes(small, atomic: bool) -> None:
    """Keys, values and metadata count."""
    exactly = {"key": "é", "value": "v" * 50, "metadata": "m" * 46}
    assert small.put_many([exactly], atomic=atomic).ok
    small.delete("é")
    for name in ("key", "value", "metadata"):
        with pytest.raises(LimitExceeded, match="at most 100 bytes") as caught:
            small.put_many([{**exactly, name: exactly[name] + "."}], atomic=atomic)
        assert caught.value.status == 413
    with pytest.raises(LimitExceeded, match="at most 100 bytes"):
        small.put_many([("a", "v" * 60), ("b", "v" * 60)], atomic=atomic)
    assert contents(small) == {}


def test_the_limits_are_those_of_workers_kv(kv) -> None:
    assert kv.put_many([(str(number), "") for number in range(10_000)]).ok
    with pytest.raises(LimitExceeded, match="at most 10000 pairs"):
        kv.put_many([("key", "")] * 10_001)
    value = bytes(25 * 2**20)
    with pytest.raises(LimitExceeded, match="at most 100000000 bytes"):
        kv.put_many([(f"large {number}", value) for number in range(4)])
    assert kv.put_many([(f"large {number}", value) for number in range(3)]).ok


# -- what becomes of a call


def test_of_a_key_that_comes_twice_the_last_one_stays(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("a", "1"), ("b", "1"), ("a", "2")]
    assert kv.put_many(pairs).successful_key_count == 3
    assert contents(kv) == {"a": "2", "b": "1"}
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.PART_CHANGES", 2)
    assert kv.put_many([*pairs, ("a", "3")], atomic=False).successful_key_count == 4
    assert contents(kv) == {"a": "3", "b": "1"}


def test_delete_many(kv) -> None:
    kv.put_many({"a": "1", "b": "2", "c": "3"})
    assert kv.delete_many(name for name in ("a", "absent")).successful_key_count == 2
    with pytest.raises(InvalidRequest, match=r"index 1, key '\.'"):
        kv.delete_many(["b", "."])
    assert contents(kv) == {"b": "2", "c": "3"}
    report = kv.delete_many(["b", ".", 5], atomic=False)
    assert [failure["key"] for failure in report.unsuccessful_keys] == [".", "5"]
    assert contents(kv) == {"c": "3"}


def test_an_atomic_call_is_one_batch(db, kv) -> None:
    before = db.version
    kv.put_many([(str(number), "") for number in range(9000)])
    assert db.version == before + 9000
    seen = {db.version}
    kv.put_many([("a", ""), ("b", "")], progress=lambda *_: seen.add(db.version))
    assert seen == {before + 9000, before + 9002}


def test_progress(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.PART_CHANGES", 2)
    steps = []
    pairs = [("a", ""), ("b", ""), ("", ""), ("c", "")]
    kv.put_many(pairs, atomic=False, progress=lambda *step: steps.append(step))
    kv.delete_many(["a", "b"], progress=lambda *step: steps.append(step))
    assert steps == [(2, 3), (3, 3), (2, 2)]


def test_parts_are_bounded_in_bytes(db, kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.PART_BYTES", 10)
    done = []
    values = {"a": "1234", "b": "1234", "c": "1", "d": "12345678901234567890"}
    kv.put_many(values, atomic=False, progress=lambda *step: done.append(step[0]))
    assert done == [2, 3, 4]  # a part has 10 bytes, or one pair
    assert contents(kv) == values


def test_each_pair_is_metered(kv) -> None:
    kv.put_many([("a", "12"), ("a", "é"), ("", "")], atomic=False)
    kv.delete_many(["a", "absent"])
    with pytest.raises(InvalidRequest):
        kv.put_many([("a", "12"), ("", "")])
    meter = kv._meter
    assert (meter.writes, meter.deletes, meter.bytes_in) == (2, 2, 4)
    assert (meter.reads, meter.lists) == (0, 0)


# -- a namespace or a store that is gone


@pytest.mark.parametrize("moment", range(10))
def test_nothing_stays_in_a_namespace_that_is_deleted_meanwhile(
    db, kv, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The call looks five times whether it is there; it is deleted before or after such a look."""
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.PART_CHANGES", 2)
    moments = itertools.count()
    _check_usable = kv._check_usable

    def maybe_delete() -> None:
        if next(moments) == moment:
            db.delete("test")
            db.wait_for_removals()

    def check() -> None:
        maybe_delete()
        _check_usable()
        maybe_delete()

    monkeypatch.setattr(kv, "_check_usable", check)
    pairs = [("a", ""), ("b", ""), ("c", "")]
    if moment < 9:
        with pytest.raises(NamespaceNotFound):
            kv.put_many(pairs, atomic=False)
    else:
        assert kv.put_many(pairs, atomic=False).ok
    assert next(moments) > moment
    assert list(db.store.keys(kv._prefix)) == []


def test_a_reader_can_not_write(tmp_path) -> None:
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("test").put("a", "1")
    with kvengine.open(tmp_path / "db", read_only=True) as db:
        for atomic in (True, False):
            with pytest.raises(StoreReadOnly):
                db.namespace("test").put_many([("b", "")], atomic=atomic)
            with pytest.raises(StoreReadOnly):
                db.namespace("test").delete_many(["a"], atomic=atomic)
