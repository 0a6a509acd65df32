"""Salvage brings every intact record of a damaged store into a new one, and names what it can't.

The damaged store is only read, and so is whatever else lies where the new one should go.
"""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import CorruptData, InvalidRequest, NotAStore, Store, salvage, verify
from kvengine.clock import SystemClock
from kvengine.testing.check import check_store
from kvengine.testing.clock import START

OPTIONS = {
    "durability": "os",
    "segment_bytes": 4096,
    "key_buffer_entries": 16,
    "compaction": "manual",
}
LATER = 4e9  # 2096


def fill(store):
    """Make compacted, closed and open segments; return the entries, as of the end."""
    for number in range(120):
        lifetime = LATER + number if number % 3 == 0 else None
        store.put(b"key %03d" % number, b"old", metadata=b"m%d" % number, expires_at=lifetime)
    for number in range(0, 120, 10):
        store.delete(b"key %03d" % number)
    store.compact()
    for number in range(30, 60):
        store.put(b"key %03d" % number, b"new %d" % number * 9, metadata=b"new")
    for number in range(35, 60, 10):
        store.delete(b"key %03d" % number)
    store._parts.end_active_segment()
    store.checkpoint()
    store.put(b"large", b"L" * 9000, metadata=b"large")
    with store.batch() as batch:
        batch.put(b"pair 1", b"1")
        batch.put(b"pair 2", b"2")
    store.put(b"last", b"the very last value")
    return {entry.key: entry[:4] for entry in store.scan()}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "store"
    with Store(path, **OPTIONS) as store:
        content = fill(store)
    return path, content


@pytest.fixture
def damaged(original, tmp_path):
    shutil.copytree(original[0], tmp_path / "damaged")
    return tmp_path / "damaged"


def rescued(path):
    """Return what a new store holds, once it has passed every check."""
    with Store(path, **OPTIONS) as store:
        check_store(store)
        return {entry.key: entry[:4] for entry in store.scan()}


def change(path, find, mask=1):
    """Damage a record with these bytes; return its file's name and where they are."""
    for file in sorted(path.glob("*.log"), reverse=True):
        data = bytearray(file.read_bytes())
        if (at := data.rfind(find)) >= 0:
            data[at] ^= mask
            file.write_bytes(data)
            return file.name, at
    raise AssertionError(find)


def snapshot(path):
    return {file.name: (file.stat().st_ino, file.read_bytes()) for file in path.iterdir()}


def test_an_intact_store_is_copied_with_all_that_belongs_to_its_entries(original, tmp_path):
    path, content = original
    report = salvage(path, tmp_path / "new")
    assert rescued(tmp_path / "new") == content
    assert report.lost_ranges == ()
    assert report.kept >= len(content)


def test_it_needs_only_the_segments(original, damaged, tmp_path):
    for file in damaged.iterdir():
        if file.suffix != ".log":
            file.unlink()
    report = salvage(damaged, tmp_path / "new")
    assert rescued(tmp_path / "new") == original[1]
    assert report.lost_ranges == ()


@pytest.mark.parametrize(
    ("find", "key", "older"),
    [
        (b"key 007", b"key 007", None),  # in a compacted segment
        (b"new 44", b"key 044", b"old"),  # in a closed one, with an older value in another
        (b"LLLL", b"large", None),
        (b"the very last", b"last", None),
    ],
)
def test_a_damaged_record_costs_only_its_key(original, damaged, tmp_path, find, key, older):
    name, at = change(damaged, find)
    report = salvage(damaged, tmp_path / "new")
    (lost,) = report.lost_ranges
    assert isinstance(lost, CorruptData)
    assert lost.file == name
    assert 0 < at - lost.offset < 9200
    assert name in str(lost)
    found = rescued(tmp_path / "new")
    assert found.pop(key, (None, None))[1] == older
    assert found == {name: entry for name, entry in original[1].items() if name != key}


def test_many_damages_are_all_reported(original, damaged, tmp_path):
    keys = [b"key 0%02d" % number for number in (1, 11, 22, 61, 72, 83)]
    places = {change(damaged, key) for key in keys}
    assert len(places) == len(keys)
    report = salvage(damaged, tmp_path / "new")
    assert len(report.lost_ranges) == len(keys)
    expected = {name: entry for name, entry in original[1].items() if name not in keys}
    assert rescued(tmp_path / "new") == expected


@given(data=st.data())
def test_whatever_byte_is_changed_every_other_key_comes_back(original, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("one") / "damaged"
    shutil.copytree(original[0], path)
    file = data.draw(st.sampled_from(sorted(path.glob("*.log"))))
    raw = bytearray(file.read_bytes())
    at = data.draw(st.integers(64, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(raw)
    report = salvage(path, path.with_name("new"))
    found, expected = rescued(path.with_name("new")), original[1]
    assert len(report.lost_ranges) == 1
    different = {key for key in {*found, *expected} if found.get(key) != expected.get(key)}
    assert len(different) <= 1


def test_deleted_keys_stay_deleted(original, damaged, tmp_path):
    change(damaged, b"the very last")
    salvage(damaged, tmp_path / "new")
    found = rescued(tmp_path / "new")
    gone = [b"key %03d" % n for n in (*range(0, 120, 10), *range(35, 60, 10))]
    back = [key for key in gone if key in found and key not in original[1]]
    assert back == []


def test_a_key_comes_back_only_if_its_delete_was_damaged(tmp_path):
    """As salvage.py says: the newest intact record wins, and the report names the place."""
    with Store(tmp_path / "store", **OPTIONS) as store:
        store.put(b"first", b"1")
        store.put(b"second", b"2")
        store.delete(b"first")
        store.delete(b"second")
    name, _ = change(tmp_path / "store", b"second")
    report = salvage(tmp_path / "store", tmp_path / "new")
    assert [lost.file for lost in report.lost_ranges] == [name]
    assert {key: entry[1] for key, entry in rescued(tmp_path / "new").items()} == {b"second": b"2"}


# -- what is missing


def test_bytes_that_are_missing_are_reported_as_far_as_the_manifest_knows(damaged, tmp_path):
    with Store(damaged, read_only=True) as store:
        closed = [
            (f"{row.id:08x}.log", row.size_bytes) for row in store._parts.rows if row.size_bytes
        ]
    assert len(closed) >= 3
    (gone, _), (cut, _), (zeroed, size) = closed[:3]
    (damaged / gone).unlink()
    with (damaged / cut).open("r+b") as file:
        file.truncate(64)  # at a border of records
    with (damaged / zeroed).open("r+b") as file:
        file.truncate(64)
        file.truncate(size)  # zeros, as behind the end of an open segment
    report = salvage(damaged, tmp_path / "new")
    assert {lost.file for lost in report.lost_ranges} == {gone, cut, zeroed}
    (damaged / "MANIFEST").unlink()
    report = salvage(damaged, tmp_path / "blind")
    assert rescued(tmp_path / "blind") == rescued(tmp_path / "new") != {}


def test_without_its_header_a_segment_is_lost_and_named(original, damaged, tmp_path):
    name, _ = change(damaged, b"kvengine")
    report = salvage(damaged, tmp_path / "new")
    (lost,) = report.lost_ranges
    assert (lost.file, lost.offset) == (name, 0)
    assert "whole segment is lost" in str(lost)
    found = rescued(tmp_path / "new")
    assert found.items() <= original[1].items()
    assert 0 < len(found) < len(original[1])


# -- time


class Sliding:
    """A clock that goes on a minute with each look."""

    now = START

    def time(self):
        Sliding.now += 60
        return Sliding.now


def test_what_expired_stays_away_and_what_expires_on_the_way_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(Sliding, "now", START)
    with Store(tmp_path / "store", **OPTIONS, clock=Sliding()) as store:
        for number in range(200):
            store.put(b"%03d" % number, b"", expires_at=START + 60 * 400 + number * 10)
        store.put(b"gone", b"old")
        store.put(b"gone", b"", expires_at=Sliding.now + 90)
    monkeypatch.setattr(Sliding, "now", START + 60 * 400)
    monkeypatch.setattr(SystemClock, "time", Sliding.time)
    report = salvage(tmp_path / "store", tmp_path / "new")
    assert report.kept >= 150
    assert report.lost_ranges == ()
    monkeypatch.undo()
    with Store(tmp_path / "new", **OPTIONS, clock=Sliding()) as store:
        assert b"gone" not in store


# -- source and target


def test_the_source_is_left_as_it_is(damaged, tmp_path):
    change(damaged, b"key 044")
    (damaged / "MANIFEST").write_bytes(b"damaged too")
    before = snapshot(damaged)
    salvage(damaged, tmp_path / "new")
    assert snapshot(damaged) == before
    assert not verify(damaged).ok


@pytest.mark.parametrize("kind", ["the source", "a store", "an empty store", "other files"])
def test_a_target_in_use_is_refused_and_left_alone(damaged, tmp_path, kind):
    change(damaged, b"key 044")
    target = damaged if kind == "the source" else tmp_path / "target"
    if kind == "other files":
        target.mkdir()
        (target / "notes.txt").write_text("precious")
    elif kind != "the source":
        with Store(target) as store:
            if kind == "a store":
                store[b"precious"] = b"value"
    before = snapshot(target)
    with pytest.raises(InvalidRequest, match="is not empty; salvage needs a new or empty folder"):
        salvage(damaged, target)
    assert snapshot(target) == before


def test_where_there_is_nothing_to_salvage(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in ("empty", "missing"):
        with pytest.raises(NotAStore):
            salvage(tmp_path / source, tmp_path / "new")
    assert not Path(tmp_path / "new").exists()


def test_progress_ends_with_everything_read(original, tmp_path):
    seen = []
    salvage(original[0], tmp_path / "new", lambda *figures: seen.append(figures))
    assert seen == sorted(seen)
    assert 0.9 * seen[-1][1] < seen[-1][0] <= seen[-1][1]


def test_a_salvage_that_is_interrupted_leaves_no_store(damaged, tmp_path):
    """Wherever that is: what is there opens as all that could be saved, or not at all."""
    calls = []
    salvage(damaged, tmp_path / "whole", lambda done, total: calls.append(done))
    with Store(tmp_path / "whole") as store:
        expected = dict(store)

    class Interrupted(Exception):
        pass

    for number in range(len(calls)):
        target, seen = tmp_path / f"target{number}", []

        def interrupt(done, total, number=number, seen=seen):
            seen.append(done)
            if len(seen) > number:
                raise Interrupted

        with pytest.raises(Interrupted):
            salvage(damaged, target, interrupt)
        with pytest.raises(InvalidRequest, match="not empty"):
            salvage(damaged, target)
        try:
            store = Store(target, create=False)
        except (CorruptData, NotAStore):
            continue
        pytest.fail(f"cut short at {number} of {len(calls)}: it opens, with {len(store)} keys")
    assert len(calls) > 10
    assert expected


@pytest.mark.parametrize("error", [OSError(5, "no"), KeyboardInterrupt()], ids=repr)
def test_a_salvage_that_ends_before_the_last_step_leaves_no_store(
    damaged, tmp_path, monkeypatch, error
):
    def fail(target):
        raise error

    monkeypatch.setattr("kvengine.engine.recovery.salvage._finish", fail)
    with pytest.raises(type(error)):
        salvage(damaged, tmp_path / "target")
    with pytest.raises(CorruptData, match="manifest"):
        Store(tmp_path / "target")
