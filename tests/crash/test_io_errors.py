"""Each call to the disk fails once, and from then on: errors surface, data never goes wrong.

Set KVENGINE_LONG=1 for more workloads.
"""

import contextlib
import errno
import os
import random

import pytest

import kvengine
from kvengine import StorageError, StorageFull, StoreReadOnly
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.history import (
    OPTIONS,
    History,
    content_of,
    open_history,
    random_changes,
)

LONG = os.environ.get("KVENGINE_LONG") == "1"
SEEDS = range(10 if LONG else 1)


def work(history: History, seed: int) -> None:
    """Write and maintain, whatever fails; read back after each call."""
    source = random.Random(seed)
    for number in range(24):
        history.write(random_changes(source, keys=8))
        expected = history.states[history.store.version]
        assert content_of(history.store) == expected
        if number % 8 == 7:
            for name in ("checkpoint", "compact", "sync"):
                history.attempt(name)
                assert content_of(history.store) == expected
    store = history.store
    try:
        history.close()
    except (StorageError, StoreReadOnly) as error:
        history.errors.append(error)
    assert store.closed


def run(number: int, code: int, forever: bool, seed: int, partial: int | None = None) -> History:
    """Work on a store whose step `number` fails."""
    history = open_history(KeptDirectory(), compaction="manual")
    history.directory.partial_bytes = partial
    if number:
        history.directory.fail(number, code, forever=forever)
    work(history, seed)
    return history


def check_after(history: History, where: str) -> None:
    """What was acknowledged is there when the disk works again, and after a power cut too."""
    history.directory.heal()
    steps = len(history.directory.steps)
    recording = history.directory.recording
    left = {
        "kill": history.directory.inner,
        "ordered": CrashedFolder(recording, steps).folder("ordered"),
        "torn": CrashedFolder(recording, steps).folder("torn", steps),
    }
    for model, folder in left.items():
        with kvengine.Store._in_directory(folder, **OPTIONS) as store:
            least = history.least(steps, power_is_lost=model != "kill")
            assert least <= store.version, (where, model)
            assert store.version in history.states, (where, model)
            assert content_of(store) == history.states[store.version], (where, model)
            assert store.verify().ok, (where, model)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_every_step_fails(code, forever, seed):
    total = len(run(0, 0, False, seed).directory.steps)
    first = 1 + len(open_history(KeptDirectory()).directory.steps)
    assert total > 100
    for number in range(first, total + 1):
        where = f"step {number} of {total}"
        history = run(number, code, forever, seed)
        failed = next(step for step in history.directory.steps if step.failed)
        where = f"step {number} of {total}: {failed.operation} {failed.name}"
        synced_log = failed.operation == "sync" and failed.name.endswith(".log")
        # What can't be removed is left for the next job: no call fails for that.
        if (forever and failed.operation != "remove") or synced_log:
            assert history.errors, where
        for error in history.errors:
            assert isinstance(error, (StorageError, StoreReadOnly)), where
            if isinstance(error, StorageError) and code == errno.ENOSPC:
                assert isinstance(error, StorageFull), where
        check_after(history, where)


@pytest.mark.parametrize("partial", [1, 15, 24, 64, 100, 300])
def test_a_write_that_stops_half_way_leaves_nothing_behind(partial):
    seed = 7
    whole = run(0, 0, False, seed)
    writes = [step for step in whole.directory.steps if step.operation == "write"]
    for step in [step for step in writes if step.name.endswith(".log") and step.offset]:
        history = run(step.number, errno.ENOSPC, False, seed, partial)
        assert history.errors
        check_after(history, f"step {step.number}, {partial} bytes")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("durability", ["group", "sync", "interval"])
def test_opening_fails_cleanly(code, durability):
    """A store that can't be made or opened says so, and can be when the disk works again."""
    for number in range(1, 30):
        inner = KeptDirectory()
        faulty = FaultyDirectory(inner)
        faulty.fail(number, code)
        try:
            store = kvengine.Store._in_directory(faulty, durability=durability, **OPTIONS)
        except StorageError as error:
            assert error.errno == code
        else:
            store.close()
        with kvengine.Store._in_directory(inner, durability=durability) as store:
            store.put(b"key", b"value")
            assert content_of(store) == {b"key": (b"value", 1)}


def test_after_a_failed_sync_the_store_only_reads():
    history = open_history(KeptDirectory())
    store = history.store
    assert history.write([(b"first", b"1")])
    history.directory.fail(len(history.directory.steps) + 2, errno.EIO)  # write, then sync
    with pytest.raises(StoreReadOnly, match="sync failed") as failure:
        store.put(b"second", b"2")
    assert isinstance(failure.value.cause, StorageError)
    assert failure.value.cause.errno == errno.EIO
    syncs = history.directory.count("sync")
    for call in (
        lambda: store.put(b"third", b"3"),
        lambda: store.delete(b"first"),
        store.sync,
        lambda: store.put(b"third", b"3", durability="sync"),
    ):
        with pytest.raises(StoreReadOnly) as again:
            call()
        assert again.value.cause is failure.value.cause
    assert history.directory.count("sync") == syncs  # it is not tried again
    assert store.get(b"first") == b"1"
    assert [entry.key for entry in store.scan(b"f")] == [b"first"]
    assert store.stats().read_only
    store.close()
    with kvengine.Store._in_directory(history.directory.inner) as reopened:
        assert reopened.get(b"first") == b"1"
        reopened.put(b"third", b"3")


@pytest.mark.parametrize("durability", ["os", "interval"])
def test_after_a_failed_sync_no_level_writes_any_more(durability):
    history = open_history(KeptDirectory(), durability=durability, sync_interval_s=60)
    store = history.store
    store.put(b"first", b"1")
    history.directory.before = _fail_syncs
    with pytest.raises(StoreReadOnly):
        store.sync()
    history.directory.before = None
    with pytest.raises(StoreReadOnly):
        store.put(b"second", b"2")
    assert store.get(b"first") == b"1"
    store.close()


def _fail_syncs(step):
    if step.operation == "sync":
        raise OSError(errno.EIO, "the disk is gone")


def test_a_full_disk_that_is_freed_goes_on():
    history = open_history(KeptDirectory(), compaction="manual")
    store, directory = history.store, history.directory
    for number in range(20):
        assert history.write([(b"key %d" % number, b"v" * 300)])
    directory.fail(len(directory.steps) + 1, errno.ENOSPC, forever=True)
    with pytest.raises(StorageFull) as failure:
        store.put(b"more", b"v" * 5000)
    assert failure.value.errno == errno.ENOSPC
    assert failure.value.filename
    assert content_of(store) == history.states[20]
    directory.heal()
    assert history.write([(b"more", b"v" * 5000)])
    assert content_of(store) == history.states[21]
    store.close()


def test_failed_compaction_changes_nothing():
    """Whichever step fails, the old segments stay, and the next attempt succeeds."""
    for number in range(1, 80):
        history = open_history(KeptDirectory(), compaction="manual")
        for turn in range(60):
            assert history.write([(b"key %d" % (turn % 7), b"%d" % turn * 100)])
        directory, store = history.directory, history.store
        directory.fail(len(directory.steps) + number, errno.ENOSPC)
        with contextlib.suppress(StorageError, StoreReadOnly):
            store.compact()
        assert content_of(store) == history.states[60]
        directory.heal()
        if error_of(store) is None:
            store.compact()
            assert content_of(store) == history.states[60]
            assert store.verify().ok
        store.close()
        check_after(history, f"step {number} of compact()")


def error_of(store: kvengine.Store) -> Exception | None:
    """Return what a write raises, None if it is accepted."""
    try:
        store.delete(b"never there")
    except StoreReadOnly as error:
        return error
    return None
