"""The log goes on in the next segment: interrupted anywhere, what was acknowledged is on disk."""

import errno
import os
from functools import partial

import pytest

from kvengine import KvError, Store, StoreReadOnly, VersionConflict
from kvengine.testing.check import check_store
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory, Step
from kvengine.testing.history import OPTIONS, content_of
from kvengine.testing.interrupting import ERRORS, Interruption, count_points

LONG = os.environ.get("KVENGINE_LONG") == "1"
VALUE = b"v" * 900


def full_store() -> tuple[Store, FaultyDirectory]:
    """Return a store whose next put begins a segment, with records that are not on disk yet."""
    directory = FaultyDirectory(KeptDirectory())
    store = Store._in_directory(directory, **{**OPTIONS, "compaction": "manual"})
    store._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    for number in range(10):
        store.put(b"before %d" % number, VALUE, durability="os" if number % 5 == 4 else "group")
    assert len(store._parts.rows) == 2
    assert store._parts.segment_table.counters(store._parts.rows[-1].id)[1] >= 4096
    return store, directory


def roll(store: Store) -> None:
    store.put(b"roll", VALUE)


def steps_of_a_roll() -> range:
    """Return the numbers of the changes of the folder that come with a roll."""
    store, directory = full_store()
    first = len(directory.steps) + 1
    roll(store)
    found = range(first, len(directory.steps) + 1)
    operations = [directory.steps[number - 1].operation for number in found]
    store.close()
    assert {"create", "write", "reserve", "sync", "sync-folder"} <= set(operations)
    return found


def check_power_cut(store: Store, directory: FaultyDirectory, where: str) -> None:
    """What is not synced is gone; the last write was acknowledged, so nothing may be missing."""
    folder = CrashedFolder(directory.recording, len(directory.steps)).folder("ordered")
    with Store._in_directory(folder, compaction="manual") as cut:
        assert content_of(cut) == content_of(store), where


def check_after(store: Store, directory: FaultyDirectory, raised: object, where: str) -> None:
    """The store holds what it held before or after, goes on over more rolls, and opens again."""
    held = set(store)
    before = {b"before %d" % number for number in range(10)}
    assert held in (before, before | {b"roll"}), where
    if raised is None:
        assert b"roll" in held, where
        check_power_cut(store, directory, where)
    try:
        for number in range(7):
            store.put(b"after %d" % number, VALUE)
            check_power_cut(store, directory, f"{where}, after put {number}")
    except StoreReadOnly as refusal:  # a sync failed
        assert refusal.cause is not None, where
        assert "sync" in where
    versions = [change.version for change in store.tail()]
    assert versions == list(range(1, len(versions) + 1)), where
    check_store(store)
    expected = content_of(store)
    failed = store._parts.commits.failure is not None
    store.close()
    for rebuild in (False, True):
        with Store._in_directory(directory.inner, rebuild=rebuild, **OPTIONS) as reopened:
            found = content_of(reopened)
            assert found == expected or (failed and found.items() <= expected.items()), where
            check_store(reopened)


@pytest.mark.parametrize("error", ERRORS)
def test_an_exception_at_every_line_of_a_roll(error):
    store, _ = full_store()
    total = count_points(lambda: roll(store))
    store.close()
    assert total > 20
    for at in range(1, total + 1) if LONG else range(1 + ERRORS.index(error), total + 1, 3):
        store, directory = full_store()
        interruption = Interruption(at, error)
        raised = interruption.run(partial(roll, store))
        assert raised is None or isinstance(raised, error | KvError)
        check_after(store, directory, raised, f"line {at} at {interruption.place}")


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, MemoryError, OSError(errno.EIO, "no"), OSError(errno.ENOSPC, "no")]
)
def test_an_exception_at_every_change_of_the_folder_in_a_roll(error):
    for number in steps_of_a_roll():
        store, directory = full_store()
        struck = []

        def strike(step: Step, number=number, struck=struck) -> None:
            if step.number == number:
                struck.append(f"step {number}: {step.operation} {step.name}")
                raise error

        directory.before = strike
        raised: BaseException | None = None
        try:
            roll(store)
        except (KeyboardInterrupt, MemoryError, KvError) as caught:
            raised = caught
        directory.before = None
        assert struck
        check_after(store, directory, raised, f"{struck[0]}: {error!r}")


def test_two_threads_begin_one_segment(monkeypatch):
    """Whoever made a segment and finds that another one was begun meanwhile makes another."""
    store, directory = full_store()
    made = store._parts._make_segment
    nested = []

    def make_twice() -> None:
        made()
        if not nested:
            nested.append(1)
            store.put(b"other", VALUE)  # as another thread, or a signal handler

    monkeypatch.setattr(store._parts, "_make_segment", make_twice)
    roll(store)
    monkeypatch.undo()
    assert nested
    assert len(store._parts.rows) == 3
    assert store[b"other"] == store[b"roll"] == VALUE
    check_power_cut(store, directory, "two threads")
    store.close()
    with Store._in_directory(directory.inner, **OPTIONS) as reopened:
        check_store(reopened)
        assert len(reopened) == 12


def test_a_segment_that_was_begun_for_a_refused_write_wakes_the_jobs():
    """There is one more to close, whatever came of the write."""
    store, _ = full_store()
    woken: list[int] = []
    store._parts.maintenance.wake = lambda: woken.append(len(store._parts.rows))  # type: ignore[method-assign]
    with pytest.raises(VersionConflict):
        store.put(b"before 1", b"", if_version=99)
    assert woken == [3]
    store.close()
