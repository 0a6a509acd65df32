"""tail() gives every change after a version, once and in order, with all that belongs to it.

Compaction may leave out what was overwritten.  A delete goes only when everyone who follows has
it; whoever is further behind is told so, and never given a log with holes.
"""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import InvalidRequest, LogCompacted, Store, StoreReadOnly
from kvengine.entry import Change, Entry
from kvengine.file.local import LocalDirectory
from kvengine.file.memory import MemoryDirectory
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.model import Model

OPTIONS = {
    "durability": "os",
    "segment_bytes": 4096,
    "key_buffer_entries": 16,
    "compaction": "manual",
}


def write(store):
    """Make changes of every kind; return what the log must say."""
    store.put(b"a", b"1", metadata=b"about a", expires_at=4e9)
    store.put(b"b", b"")
    store.put(b"a", b"2" * 5000)
    store.delete(b"b")
    with store.batch() as batch:
        batch.put(b"c", b"3", metadata=b"m" * 1024)
        batch.delete(b"absent")
        batch.delete(b"a")
    return [
        Change(1, "put", b"a", b"1", b"about a", 4e9),
        Change(2, "put", b"b", b"", b"", None),
        Change(3, "put", b"a", b"2" * 5000, b"", None),
        Change(4, "delete", b"b", b"", b"", None),
        Change(5, "put", b"c", b"3", b"m" * 1024, None),
        Change(6, "delete", b"absent", b"", b"", None),
        Change(7, "delete", b"a", b"", b"", None),
    ]


def many(store, turns=3):
    """Write over many segments: put, overwrite and delete."""
    for turn in range(turns):
        for number in range(60):
            store.put(b"%02d" % number, b"%d " % turn * 40, metadata=b"%d" % number)
        for number in range(turn, 60, 9):
            store.delete(b"%02d" % number)


def replayed(changes):
    """Return the entries that a follower has who started with nothing."""
    model = Model(ManualClock(0))
    last = 0
    for change in changes:
        assert change.version > last
        last = change.version
        if change.kind == "put":
            _, _, key, value, metadata, expires_at = change
            model._entries[key] = Entry(key, value, metadata, expires_at, last)
        else:
            model._entries.pop(change.key, None)
    return sorted(model._entries.values())


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_every_change_with_all_that_belongs_to_it(tmp_path, kind):
    with Store.in_memory() if kind == "memory" else Store(tmp_path / "store") as store:
        expected = write(store)
        for after in range(store.version + 1):
            assert list(store.tail(after)) == expected[after:]
        assert all(type(change) is Change for change in store.tail())


def test_across_segments_and_reopening(tmp_path):
    path = tmp_path / "store"
    with Store(path, **OPTIONS) as store:
        many(store)
        expected = list(store.tail())
        assert store.stats().segments > 5
        assert [change.version for change in expected] == list(range(1, store.version + 1))
    for options in ({}, {"read_only": True}, {"rebuild": True}):
        with Store(path, **{**OPTIONS, **options}) as store:
            for after in (0, 1, 100, 101, len(expected) - 1, len(expected)):
                assert list(store.tail(after)) == expected[after:]


@given(
    changes=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60),
    compact_at=st.sets(st.integers(0, 60), max_size=3),
    share=st.floats(0, 1),
)
def test_a_follower_who_reads_on_has_what_the_store_has(changes, compact_at, share):
    """Whenever it looked last; if it was too long ago, it starts again from 0 and has it too."""
    with Store.in_memory(**OPTIONS) as store:
        looked = int(len(changes) * share)
        state, seen = {}, 0
        for step, (number, is_put) in enumerate(changes):
            if step == looked:
                state, seen = {change.key: change for change in store.tail()}, store.version
            if is_put:
                store.put(b"%d" % number, b"%d" % step)
            else:
                store.delete(b"%d" % number)
            if step in compact_at:
                store.compact()
        try:
            changes = list(store.tail(seen))
        except LogCompacted as error:
            assert seen < error.oldest <= store.version
            state, changes = {}, list(store.tail(0))
        state.update({change.key: change for change in changes})
        found = [change for change in state.values() if change.kind == "put"]
        entries = [(*change[2:], change.version) for change in found]
        assert sorted(entries) == list(store.scan())


# -- after compaction


def test_after_compaction_versions_grow_and_the_newest_of_each_key_is_there(tmp_path):
    with Store(tmp_path / "store", **OPTIONS) as store:
        many(store)
        before = {change.version: change for change in store.tail()}
        newest = {change.key: change.version for change in before.values()}
        store.compact()
        after = list(store.tail())
        assert len(after) < len(before)
        assert all(before[change.version] == change for change in after)
        puts = {key for key, version in newest.items() if before[version].kind == "put"}
        assert {change.key for change in after if change.kind == "put"} == puts
        assert replayed(after) == list(store.scan())
        version = store.put(b"more", b"later")
        assert list(store.tail(version - 1)) == [
            Change(version, "put", b"more", b"later", b"", None)
        ]
        check_store(store)


def test_a_tail_from_zero_makes_an_equal_store():
    with Store.in_memory(**OPTIONS) as store, Store.in_memory(**OPTIONS) as other:
        many(store)
        write(store)
        store.compact()
        many(store, turns=1)
        for change in store.tail():
            if change.kind == "put":
                other.put(*change[2:4], metadata=change.metadata, expires_at=change.expires_at)
            else:
                other.delete(change.key)
        assert [entry[:4] for entry in other.scan()] == [entry[:4] for entry in store.scan()]


def test_a_tail_that_began_goes_on_through_compaction_and_close(tmp_path):
    store = Store(tmp_path / "store", **OPTIONS)
    many(store)
    expected = list(store.tail())
    tail = store.tail()
    begun = [next(tail) for _ in range(10)]
    store.put(b"later", b"not in this tail")
    store.clear()
    store.compact()
    assert [*begun, *(next(tail) for _ in range(100))] == expected[:110]
    store.close()
    assert list(tail) == expected[110:]


def test_an_expired_put_is_a_delete_or_gone_and_never_forgotten_silently():
    clock = ManualClock()
    with Store.in_memory(**OPTIONS, clock=clock, oldest_needed=lambda: 1) as store:
        store.put(b"stays", b"")
        version = store.put(b"goes", b"value", metadata=b"m", expires_at=clock.time() + 1)
        clock.advance(1)
        (change,) = store.tail(1)
        assert change.kind == "put"  # the log says what happened
        store.compact()
        assert list(store.tail(1)) == [Change(version, "delete", b"goes", b"", b"", None)]


# -- what is kept, and for whom


def test_deletes_are_kept_as_long_as_someone_needs_them(tmp_path):
    needed = 0
    options = {**OPTIONS, "oldest_needed": lambda: needed}
    store = Store(tmp_path / "store", **options)
    for number in range(10):
        store.put(b"%d" % number, b"")
    for number in range(10):
        store.delete(b"%d" % number)  # versions 11 to 20
    for needed in (0, 10, 11, 15, 20):
        for reopened in (False, True):
            store.compact()
            assert [change.version for change in store.tail(needed)] == list(
                range(max(needed, 10) + 1, 21)
            )
            assert all(change.kind == "delete" for change in store.tail(needed))
            if needed > 11:
                with pytest.raises(LogCompacted) as caught:
                    store.tail(needed - 1)
                assert (caught.value.after, caught.value.oldest) == (needed - 1, needed)
                assert f"after version {needed - 1} are gone" in str(caught.value)
            if not reopened:
                store.close()
                store = Store(tmp_path / "store", **options)
    assert list(store.tail(0)) == []
    store.close()


def test_without_followers_compaction_forgets_and_says_so(tmp_path):
    with Store(tmp_path / "store", **OPTIONS) as store:
        many(store)
        newest_delete = max(c.version for c in store.tail() if c.kind == "delete")
        store.compact()
        with Store(tmp_path / "store", read_only=True) as reader:
            for each in (store, reader):
                with pytest.raises(LogCompacted, match="start over with tail"):
                    each.tail(newest_delete - 1)
                everything = list(each.tail(0))
                behind = [c for c in everything if c.version > newest_delete]
                assert list(each.tail(newest_delete)) == behind
                assert replayed(everything) == list(store.scan())


def test_no_delete_is_missing_while_compaction_replaces_the_segments():
    """At each step of the manifest a tail gives every delete, or says that they are gone."""
    directory = FaultyDirectory(MemoryDirectory())
    with Store._in_directory(directory, **OPTIONS) as store:
        for number in range(50):
            store.put(b"%d" % number, b"value")
        for number in range(40):
            store.delete(b"%d" % number)
        store.checkpoint()
        answers = []

        def look(step):
            if not step.name.startswith("MANIFEST"):
                return
            try:
                changes = list(store.tail(50))
            except LogCompacted as error:
                answers.append(error.oldest)
            else:
                assert [change.version for change in changes] == list(range(51, 91))
                answers.append(0)

        directory.before = look
        store.compact()
        directory.before = None
        assert set(answers) == {0, 90}
        assert answers == sorted(answers)


def test_a_compaction_that_fails_forgets_nothing():
    directory = FaultyDirectory(MemoryDirectory())
    with Store._in_directory(directory, **OPTIONS) as store:
        store.put(b"a", b"1")
        store.put(b"b", b"2")
        store.delete(b"a")

        def refuse(step):
            if (
                step.name.startswith("MANIFEST.")
                and step.data
                and b'"forgotten":0,' not in step.data
            ):
                raise OSError(28, "No space left on device")

        directory.before = refuse
        with pytest.raises(OSError, match="No space left"):
            store.compact()
        directory.before = None
        assert [change.version for change in store.tail(1)] == [2, 3]
        check_store(store)


# -- a reader in step with the writer


def test_a_reader_sees_each_change_once(tmp_path):
    path = tmp_path / "store"
    with Store(path, **OPTIONS) as store, Store(path, read_only=True) as reader:
        seen = []
        for number in range(210):
            store.put(b"%d" % (number % 20), b"%d" % number * 30)
            if number % 7 == 6:
                seen += reader.tail(seen[-1].version if seen else 0)
            if number % 50 == 48:
                store.compact()
        assert [change.version for change in seen] == list(range(1, 211))
        assert list(reader.tail()) == list(store.tail())


@pytest.mark.parametrize("follow", [False, True])
def test_a_version_that_the_store_does_not_have(follow):
    """What has it has seen changes that this store lost: it must not wait for others like them."""
    with Store.in_memory() as store:
        store.update({b"a": b"", b"b": b""})
        for after in (3, 12, (1 << 48) - 1):
            with pytest.raises(LogCompacted, match=f"does not have version {after}: .* version 2"):
                store.tail(after, follow=follow, timeout=1.0)
        for wrong in (1 << 48, 1 << 64, -1, 1.0, "1", True, None):
            with pytest.raises(InvalidRequest, match="after must be a version"):
                store.tail(wrong, follow=follow)


def test_a_log_that_can_not_be_written_any_more_can_be_read(tmp_path):
    faulty = FaultyDirectory(LocalDirectory(str(tmp_path / "s")))
    store = Store._in_directory(faulty)
    store.put(b"key", b"value")
    place = store._parts.tail_from(1, b"")
    faulty.fail(len(faulty.steps) + 2, errno.EIO)
    with pytest.raises(StoreReadOnly):
        store.put(b"key", b"lost, perhaps")
    assert [change.version for change in store.tail()] == [1, 2]
    assert [change.value for change in store.history(b"key")] == [b"value", b"lost, perhaps"]
    assert [change.version for change in place.changes()] == [2]
    assert store.consumer("one")._tail().seen == 0
    store.close()


def test_a_handler_may_read_the_log_in_the_middle_of_anything(tmp_path):
    """Nothing that it needs is locked: neither by a job of the writer nor by one who catches up."""
    with Store(tmp_path / "s") as store, Store(tmp_path / "s", read_only=True) as reader:
        store.put(b"key", b"")
        assert reader.version == 1
        for each in (store, reader):
            tail = each.tail
            found = each._parts.consistent_read(lambda: list(tail()))  # noqa: B023
            assert [change.version for change in found] == [1]
