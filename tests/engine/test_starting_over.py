"""A store that starts over, from files that others have made: what changes together, and when."""

import os

import pytest

from kvengine import LogCompacted, Store
from kvengine.engine.following.follower import Follower
from kvengine.engine.jobs import compactor, maintenance
from kvengine.engine.recovery import loading
from kvengine.testing.check import check_store
from tests.forking import in_child

SMALL = {"segment_bytes": 4096, "durability": "os", "compaction": "manual"}


@pytest.fixture
def stores(tmp_path):
    with Store(tmp_path, **SMALL) as store, Store(tmp_path, **SMALL) as other:
        yield store, other


def fill_segment(store):
    """Write until the log goes on in another segment."""
    segments = len(store._parts.rows)
    while len(store._parts.rows) <= segments:
        store.put(b"%d" % store.version, bytes(1000))


def interrupt_behind(monkeypatch, store, name):
    """Let Ctrl-C come as soon as a method has returned."""
    method = getattr(store, name)

    def interrupted(*args, **options):
        monkeypatch.undo()
        method(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, name, interrupted)


def test_a_manifest_names_a_segment_that_was_begun_while_its_store_started_over(
    stores, monkeypatch
):
    """Its changes would be lost: what has a lower number than the next file, and no name, is."""
    store, other = stores
    store.put(b"first", b"")
    recover = loading.recover

    def go_on(*args, **options):
        monkeypatch.undo()
        other.put(b"second", b"")
        fill_segment(other)
        return recover(*args, **options)

    monkeypatch.setattr(loading, "recover", go_on)
    with other._parts.jobs:
        store._parts.follower.start_over()
        store._parts.maintenance.run(store._parts.replace_manifest)
    check_store(store)
    assert dict(store) == dict(other)


def test_slots_that_are_free_in_the_old_index_are_not_given_away_in_the_new(stores, monkeypatch):
    store, other = stores
    for _ in range(3):
        fill_segment(store)
    store.update(dict.fromkeys(list(store)[::2], b"new"))
    store.checkpoint()
    # So the saved index mentions slots of segments that are gone.
    store._parts.maintenance.run(
        lambda: compactor.compact(store._parts, compactor.plan_everything(store._parts))
    )
    assert store._parts.retired_slots
    fill_segment(other)
    other.checkpoint()
    interrupt_behind(monkeypatch, store._parts, "take_over")
    with pytest.raises(KeyboardInterrupt):
        store._parts.follower.start_over()
    expected = dict(other)
    store.checkpoint()
    for _ in range(3):
        fill_segment(store)
    assert {key: store[key] for key in expected} == expected
    check_store(store)


def test_a_digest_is_not_of_an_index_that_was_replaced(stores, monkeypatch):
    store, other = stores
    store.put(b"key", b"1")
    before = store.digest()
    other.put(b"key", b"2")
    other.checkpoint()
    monkeypatch.setattr(store._parts, "read_active", lambda _: False)
    interrupt_behind(monkeypatch, store._parts, "take_over")
    with pytest.raises(KeyboardInterrupt):
        store._parts.follower.start_over()
    monkeypatch.undo()
    assert store.digest(moment=before.moment) == other.digest(moment=before.moment)


def test_a_tail_hears_that_changes_were_lost_though_the_start_over_was_interrupted(
    tmp_path, monkeypatch
):
    store = Store(tmp_path, **SMALL)
    store.put(b"kept", b"")
    segment = store._parts.rows[-1].id
    end = store._parts.segment_table.counters(segment)[1]
    with Store(tmp_path, read_only=True) as reader:
        store.put(b"lost", b"")
        tail = reader._parts.tail_from(0, b"")
        assert [change.key for change in tail.changes()] == [b"kept", b"lost"]
        store._parts.control_page.take_back(1)  # as one does whose sync has failed
        store._parts.directory.close()
        os.truncate(tmp_path / f"{segment:08x}.log", end)
        with Store(tmp_path, **SMALL) as other:
            other.update({b"1": b"new", b"2": b"new"})
            interrupt_behind(monkeypatch, loading, "recover_beside")
            with pytest.raises(KeyboardInterrupt):
                reader.get(b"lost")
            assert b"lost" not in reader
            with pytest.raises(LogCompacted):
                next(tail.changes())


def test_a_reader_does_not_read_on_behind_the_end_of_a_segment_whose_changes_were_lost(tmp_path):
    """It looked whether any were just before; touching what is not there would be SIGBUS."""

    def lose_and_go_on(path, store, end):
        segment = store._parts.rows[-1].id
        store._parts.control_page.take_back(1)
        store._parts.directory.close()
        os.truncate(path / f"{segment:08x}.log", end)
        with Store(path, **SMALL) as other:
            other.put(b"new", b"")
            other.put(b"new", bytes(5000))
            other.put(b"next", b"")
            other._parts.maintenance.run(lambda: maintenance.close_filled_segments(other._parts))
            assert other._parts.rows[0].id == segment
            assert len(other._parts.rows) == 2

    def look():
        store = Store(tmp_path, **SMALL)
        store.put(b"kept", b"")
        _, end, *_ = store._parts.segment_table.counters(store._parts.rows[-1].id)
        with Store(tmp_path, read_only=True) as reader:
            store.put(b"lost", bytes(9000))
            assert b"lost" in reader
            assert isinstance(reader._parts.follower, Follower)
            find, found = reader._parts.follower._next, []

            def lose_first(control):
                if not found:
                    lose_and_go_on(tmp_path, store, end)
                found.append(find(control))
                return found[-1]

            reader._parts.follower._next = lose_first  # type: ignore[method-assign]
            reader._parts.follower.follow_further()
            assert found[0] is not None
            return sorted(reader)

    assert in_child(look) == [b"kept", b"new", b"next"]


def test_groups_are_counted_anew_by_the_keys_of_the_new_index(tmp_path, monkeypatch):
    """Another thread lets the store start over while this one waits for its turn to count."""
    options = {**SMALL, "groups": (b"d", 1)}
    with Store(tmp_path, **options) as store, Store(tmp_path, **options) as other:
        store.put(b"d1", b"")
        store._parts.groups.invalidate()
        other.put(b"d2", b"")
        other.checkpoint()
        exclusively = store._parts.exclusively

        def start_over_first(action, *args):
            monkeypatch.undo()
            store._parts.follower.start_over()
            store._parts.groups.invalidate()
            return exclusively(action, *args)

        monkeypatch.setattr(store._parts, "exclusively", start_over_first)
        monkeypatch.setattr(store._parts, "check_usable", lambda: None)
        assert store.group_size(b"d").keys == 2


def test_groups_that_are_in_doubt_again_are_not_shown(tmp_path, monkeypatch):
    options = {**SMALL, "groups": (b"d", 1)}
    with Store(tmp_path, **options) as store, Store(tmp_path, **options) as other:
        other.put(b"d1", b"")
        assert store.group_size(b"d").keys == 1
        store._parts.groups.invalidate()
        exclusively = store._parts.exclusively

        def start_over_after(action, *args):
            monkeypatch.undo()
            found = exclusively(action, *args)
            store._parts.follower.start_over()
            store._parts.groups.clear()
            store._parts.groups.invalidate()
            return found

        monkeypatch.setattr(store._parts, "exclusively", start_over_after)
        assert store.group_size(b"d").keys == 1
