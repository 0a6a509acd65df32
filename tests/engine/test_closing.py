"""Closing: the next open has next to nothing to do; two threads, an interruption, a failure."""

import gc
import os
import signal
import threading
from pathlib import Path

import pytest

from kvengine import StorageError, Store, StoreClosed, StoreLocked
from kvengine.engine import closing
from kvengine.engine.index.saved_index import SavedIndex
from kvengine.engine.jobs import maintenance
from kvengine.engine.recovery import recovery
from kvengine.engine.recovery.replay import Replay
from kvengine.testing.check import check_store
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.history import OPTIONS

KEYS = 20_000


@pytest.fixture
def work(monkeypatch):
    """What opening a store does that takes time with its size."""
    done = {"changes": 0, "purges": 0}

    class CountingReplay(Replay):
        def run(self, until=0):
            before = self.version
            super().run(until)
            done["changes"] += self.version - before

    class CountingIndex(SavedIndex):
        def purge(self, gone):
            done["purges"] += 1
            return super().purge(gone)

    monkeypatch.setattr(recovery, "Replay", CountingReplay)
    monkeypatch.setattr("kvengine.engine.recovery.loading.SavedIndex", CountingIndex)
    return done


def load(path):
    with Store(path, durability="os", compaction="manual", segment_bytes=1 << 20) as store:
        store.update({b"%05d" % number: bytes(50) for number in range(KEYS)})


def overwrite(path):
    load(path)
    with Store(path, durability="os", compaction="manual", segment_bytes=1 << 20) as store:
        for number in range(KEYS):
            store[b"%05d" % number] = bytes(60)


def compact_in_background(path):
    """The last thing before close() is a compaction, which moves records the index has saved."""
    overwrite(path)
    with Store(path, durability="os", segment_bytes=1 << 20) as store:
        segments = store.stats().segments
        with store._parts.jobs:
            store._parts.maintenance.wake()
            store._parts.maintenance.run(lambda: maintenance.compact_in_background(store._parts))
        assert store.stats().segments < segments


def compact(path):
    overwrite(path)
    with Store(path, durability="os", segment_bytes=1 << 20) as store:
        store.compact()


def write_little(path):
    compact(path)
    with Store(path, durability="os") as store:
        for number in range(100):
            store[b"more %d" % number] = b""


@pytest.mark.parametrize("before", [load, overwrite, compact_in_background, compact, write_little])
def test_opening_after_a_clean_close(tmp_path, work, before):
    before(tmp_path)
    work.update(changes=0, purges=0)
    with Store(tmp_path) as store:
        assert len(store) >= KEYS
    assert work["changes"] <= 100
    assert work["purges"] == 0


def test_a_small_store_saves_no_index(tmp_path):
    with Store(tmp_path, durability="os") as store:
        store.update({b"%d" % number: b"" for number in range(100)})
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix) == [".log"]


def mapped_bytes(path):
    """Return how much address space this process has for files of a folder."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(path) in line:
            start, end = line.split()[0].split("-")
            total += int(end, 16) - int(start, 16)
    return total


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("durability", ["os", "interval", "group", "sync"])
def test_closing_gives_address_space_back_but_for_views(tmp_path, durability, read_only):
    """The end of the log has 200 MiB; who keeps a closed store must not keep them (finding E25)."""
    path = tmp_path / "store"
    options = {"durability": durability, "segment_bytes": 1 << 16}
    writer = Store(path, **options)
    with writer.batch() as batch:
        for number in range(500):
            batch.put(b"key%d" % number, b"value%d" % number * 100)
    store = writer
    if read_only:
        store = Store(path, read_only=True)
        writer.close()
    view = store.get_view(b"key7")
    assert mapped_bytes(path) > 200 << 20
    store.close()
    store.close()
    assert mapped_bytes(path) <= (200 << 20) + (1 << 16)  # of the view, and the control page
    assert bytes(view) == b"value7" * 100
    del view
    assert mapped_bytes(path) <= 1 << 16
    with pytest.raises(StoreClosed):
        store.get(b"key7")
    assert "closed" in repr(store)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", ["writer", "reader", "in memory"])
def test_a_closed_store_that_somebody_keeps_holds_no_descriptor(tmp_path, kind):
    Store(tmp_path).close()
    before = descriptors()
    if kind == "in memory":
        store = Store.in_memory()
    else:
        store = Store(tmp_path, read_only=kind == "reader")
    if kind == "reader":
        store.wait(0, timeout=0)
    else:
        store.put(b"key", b"value")
    assert descriptors() > before
    store.close()
    assert descriptors() == before
    assert store.closed


# -- interrupted, and by two threads


class Interrupted(Exception):
    """What a handler of a signal raises."""


def busy_store(directory):
    """Return a store whose close() has jobs to do."""
    store = Store._in_directory(directory, durability="os", compaction="manual", **OPTIONS)
    store._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    for number in range(200):
        store.put(b"%d" % number, bytes(100))
    return store


def test_an_interrupted_close_leaves_a_store_that_works_and_can_be_closed(monkeypatch):
    directory = FaultyDirectory(KeptDirectory())
    store = busy_store(directory)
    begun, go_on = threading.Event(), threading.Event()

    def raise_it(number, frame):
        go_on.set()
        raise Interrupted

    def block(step):
        if step.operation == "truncate" and not begun.is_set():
            begun.set()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert go_on.wait(60)

    before = signal.signal(signal.SIGUSR1, raise_it)
    directory.before = block
    try:
        with pytest.raises(Interrupted):
            store.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert begun.is_set()
    directory.before = None
    assert not store.closed
    store.put(b"more", b"1")
    store.compact()
    check_store(store)
    store.close()
    assert store.closed
    with Store._in_directory(directory.inner) as reopened:
        assert len(reopened) == 201


@pytest.mark.parametrize("late", ["_shorten", "_give_back"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_a_close_that_is_interrupted_late_is_completed_by_the_next(
    tmp_path, monkeypatch, late, error
):
    store = Store(tmp_path)
    store.put(b"key", b"value")
    with monkeypatch.context() as patch:
        patch.setattr(closing, late, interrupt_with(error))
        with pytest.raises(error):
            store.close()
    with pytest.raises(StoreClosed):
        store.put(b"key", b"later")
    with pytest.raises(StoreLocked):
        Store(tmp_path)
    store.close()
    with Store(tmp_path) as reopened:
        assert reopened[b"key"] == b"value"


def interrupt_with(error):
    def interrupt(*arguments):
        raise error

    return interrupt


@pytest.mark.parametrize("last", [False, True], ids=["beside another", "the last"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_store_whose_close_was_interrupted_has_its_lock(tmp_path, monkeypatch, last, exclusive):
    """Also of the folder: the file LOCK may be removed by whoever believes it to be stale."""
    store = Store(tmp_path, exclusive=exclusive)
    if not last and not exclusive:
        store.put(b"other", b"")
        with Store(tmp_path):
            interrupt_close(store, monkeypatch)
    else:
        interrupt_close(store, monkeypatch)
    (tmp_path / "LOCK").unlink()
    with pytest.raises(StoreLocked):
        Store(tmp_path, exclusive=True)
    if exclusive:
        with pytest.raises(StoreLocked):
            Store(tmp_path)
    else:
        with Store(tmp_path) as other:
            other.put(b"key", b"value")
            assert store[b"key"] == b"value"
    store.close()
    Store(tmp_path, exclusive=True).close()


def interrupt_close(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store._parts.maintenance, "close", interrupt_with(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.close()


def test_a_store_that_is_dropped_after_an_interrupted_close_gives_its_lock_back(
    tmp_path, monkeypatch
):
    store = Store(tmp_path)
    store.put(b"key", b"value")
    with monkeypatch.context() as patch:
        patch.setattr(closing, "_give_back", interrupt_with(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.close()
    del store
    Store(tmp_path).close()


def test_a_store_that_the_collector_drops_is_closed_like_any_other(tmp_path, caplog):
    """What refers to it weakly does no more then; another process has replaced the manifest."""
    options = {"durability": "os", "compaction": "manual"}
    with Store(tmp_path, **options) as other:
        store = Store(tmp_path, **options)
        other.checkpoint()
        store.update({b"%d" % number: b"" for number in range(KEYS)})
        cycle = [store]
        cycle.append(cycle)
        del store, cycle
        gc.collect()
        assert other._parts.claim_jobs(other._parts.token, 60_000)  # it has given them back
        other._parts.end_jobs(other._parts.token)
        assert other._parts.follower.refresh()  # it has saved its index
        assert len(other) == KEYS
        assert other._parts.directory.is_last()
    assert caplog.text == ""


def test_a_close_that_fails_gives_the_folder_back(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put(b"key", b"value")
    monkeypatch.setattr(closing, "_shorten", interrupt_with(StorageError(5, "no", "file")))
    with pytest.raises(StorageError):
        store.close()
    monkeypatch.undo()
    store.close()
    Store(tmp_path).close()


def test_a_second_thread_in_close_waits_until_the_first_is_done():
    """And nobody writes after the lock was given back."""
    directory = FaultyDirectory(KeptDirectory())
    store = busy_store(directory)
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def block(step):
        if not begun.is_set():
            begun.set()
            assert go_on.wait(60)

    def close():
        store.close()
        seen.append((store._parts.is_released, len(directory.steps)))

    directory.before = block
    threads = [threading.Thread(target=close) for _ in range(3)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    threads[1].join(0.05)
    assert seen == []
    assert not store._parts.is_released
    store.put(b"meanwhile", b"1")  # still allowed
    go_on.set()
    for thread in threads:
        thread.join(60)
    steps = len(directory.steps)
    assert seen == [(True, steps)] * 3  # whoever comes back finds everything done
    with pytest.raises(StoreClosed):
        store.put(b"late", b"1")
    with Store._in_directory(directory.inner) as reopened:
        assert reopened[b"meanwhile"] == b"1"
        check_store(reopened)


def test_what_is_written_while_the_store_is_closed_is_durable():
    """ "interval": nobody syncs any more once the store is closed."""
    directory = FaultyDirectory(KeptDirectory())
    options = {**OPTIONS, "durability": "interval", "sync_interval_s": 60}
    store = Store._in_directory(directory, **options)
    store.put(b"key", b"1")
    store._parts.maintenance.close = lambda error: store.put(b"late", b"1")  # type: ignore[assignment,method-assign]
    store.close()
    power_cut = CrashedFolder(directory.recording, len(directory.steps)).folder("ordered")
    with Store._in_directory(power_cut) as reopened:
        assert set(reopened) == {b"key", b"late"}


def test_who_uses_a_store_while_it_is_closed_is_told_so(tmp_path):
    """However far closing has come, no call says that the folder or the disk is to blame."""
    path = tmp_path / "store"
    calls = ["verify", "stats", "consumers", "snapshot", "compact", "checkpoint"]
    for name in calls:
        store = Store(path)
        store.put(b"key", b"value")
        store._parts._make_segment()  # as background work may have done
        store._parts.directory.close()  # what closing does just before it marks the store as closed
        with pytest.raises(StoreClosed):
            for _ in range(2):
                getattr(store, name)()
        store.close()


@pytest.mark.parametrize("durability", ["group", "os"])
def test_who_comes_to_wait_for_the_disk_after_close_is_told_what_is_there(tmp_path, durability):
    """A thread that has written, and not yet begun to wait, while another one closes the store."""
    with Store(tmp_path / "s", durability=durability) as store:
        store.put(b"key", b"value")
        commits = store._parts.commits
        ticket = commits.version
    if commits.durable_version >= ticket:
        commits.sync()  # close() has brought it to the disk
    else:
        assert durability == "os"
        with pytest.raises(StoreClosed, match="before a write was synced"):
            commits.sync()
