"""Durability "interval" waits for nothing; and what a store does after a sync that failed."""

import threading

import pytest

from kvengine import Store, StoreReadOnly
from kvengine.engine.jobs import job_thread
from kvengine.engine.jobs.worker import Worker
from kvengine.testing.check import check_store
from kvengine.testing.crashing import KeptDirectory
from kvengine.testing.faulty import FaultyDirectory, Step
from kvengine.testing.history import OPTIONS
from tests.engine.garbage import filled
from tests.waiting import HANG_S, until


def opened(**options):
    directory = FaultyDirectory(KeptDirectory())
    options = {**OPTIONS, "durability": "interval", "sync_interval_s": 0.01, **options}
    return Store._in_directory(directory, **options), directory


def check_that_it_syncs(store):
    """What is written comes to disk although nobody asks for it."""
    for number in range(3):
        version = store.put(b"interval", b"%d" % number)
        until(
            lambda version=version: store._parts.commits.durable_version >= version, "no sync came"
        )


@pytest.mark.parametrize("durability", ["os", "group"])
def test_a_single_write_at_intervals_comes_to_disk(durability):
    """Also in a store whose own durability is another; its other writes start no thread."""
    store, _ = opened(durability=durability)
    store.put(b"first", b"1", durability="os")
    assert not store._parts.commits.is_sync_due
    for number in range(3):
        for write in (
            lambda number=number: store.put(b"a", b"%d" % number, durability="interval"),
            lambda: store.delete(b"a", durability="interval"),
        ):
            version = write()
            until(
                lambda version=version: store._parts.commits.durable_version >= version, "no sync"
            )
    with store.batch(durability="interval") as batch:
        batch.put(b"b", b"1")
    until(lambda: store._parts.commits.durable_version == store.version, "no sync after a batch")
    until(lambda: not store._parts.commits.is_sync_due, "it rests until it is asked again")
    store.close()


def test_a_single_write_at_intervals_is_on_disk_after_close():
    directory = FaultyDirectory(KeptDirectory())
    options = {**OPTIONS, "durability": "os", "sync_interval_s": 60}
    store = Store._in_directory(directory, **options)
    store.put(b"a", b"1", durability="interval")
    until(lambda: store._parts.commits.is_sync_due, "the thread waits")
    before = len([step for step in directory.steps if step.operation == "sync"])
    store.close()
    assert len([step for step in directory.steps if step.operation == "sync"]) > before


def test_where_no_thread_can_be_started_a_write_at_intervals_syncs_itself(monkeypatch):
    store, _ = opened(durability="os", sync_interval_s=60)
    monkeypatch.setattr(store._parts.interval_sync, "_worker", NoThread(lambda: None))
    version = store.put(b"a", b"1", durability="interval")
    assert store._parts.commits.durable_version == version
    store.close()


class NoThread(Worker):
    def wake(self):
        return False


@pytest.mark.parametrize("call", ["compact", "checkpoint"])
def test_interval_syncs_while_a_job_is_under_way(call):
    store, directory = opened()
    for number in range(200):
        store.put(b"%d" % (number % 20), b"value %d " % number * 9)
    begun, go_on = threading.Event(), threading.Event()

    def block(step: Step) -> None:
        if step.operation == "create" and step.name.endswith((".index", ".keys")):
            begun.set()
            assert go_on.wait(HANG_S)

    directory.before = block
    job = threading.Thread(target=getattr(store, call))
    job.start()
    try:
        assert begun.wait(HANG_S)
        check_that_it_syncs(store)
    finally:
        go_on.set()
        job.join(HANG_S)
    directory.before = None
    store.close()


def test_interval_syncs_while_compaction_is_throttled():
    store, _ = opened(compaction_bytes_per_s=1)
    rests, go_on = threading.Event(), threading.Event()

    def rest(seconds):
        assert seconds > 0
        rests.set()
        assert go_on.wait(HANG_S)
        store._parts.maintenance.check()

    store._parts.maintenance.rest = rest
    for number in range(200):
        store.put(b"%d" % (number % 20), b"value %d " % number * 9)
    assert rests.wait(HANG_S)
    check_that_it_syncs(store)
    go_on.set()
    store.close()


def test_close_does_not_wait_for_a_throttled_compaction(monkeypatch):
    """It would rest for hours here."""
    monkeypatch.setattr(job_thread, "REST_S", 0.001)
    store, directory = opened(compaction_bytes_per_s=1)
    for number in range(200):
        store.put(b"%d" % (number % 20), b"value %d " % number * 9)
    until(lambda: store._parts.is_compacting_in_background, "it begins")
    store.close()
    with Store._in_directory(directory.inner) as reopened:
        assert len(reopened) == 20
        check_store(reopened)


def test_interval_syncs_during_a_slow_progress_of_a_backup(tmp_path):
    store, _ = opened()
    for number in range(200):
        store.put(b"%d" % (number % 20), b"value %d " % number * 9)
    calls = []

    def progress(done, total):
        check_that_it_syncs(store)
        calls.append(done)

    store.backup(tmp_path / "copy", progress)
    assert calls
    store.close()


def test_interval_syncs_while_somebody_holds_the_jobs():
    store, _ = opened()
    with store._parts.jobs:
        check_that_it_syncs(store)
    store.close()


def test_a_sync_of_the_interval_that_fails_makes_the_store_read_only():
    store, directory = opened()
    check_that_it_syncs(store)

    def fail(step: Step) -> None:
        if step.operation == "sync":
            raise OSError(5, "Input/output error")

    directory.before = fail
    store.put(b"lost", b"1")
    until(lambda: store._parts.refusal is not None, "the failure is noticed")
    with pytest.raises(StoreReadOnly, match="a sync failed") as raised:
        store.put(b"more", b"1")
    assert raised.value.cause is not None
    until(lambda: store.stats().failures, "and told")
    assert "a sync failed" in store.stats().last_error
    store.close()


# -- after a sync that failed


def test_what_reads_goes_on_after_a_failed_sync(tmp_path):
    """A backup is wanted just then."""
    directory = FaultyDirectory(KeptDirectory())
    store = filled(directory, durability="os")
    store.checkpoint()
    store.put(b"last", b"1")

    def fail(step: Step) -> None:
        if step.operation == "sync" and step.name.endswith(".log"):
            raise OSError(5, "Input/output error")

    directory.before = fail
    with pytest.raises(StoreReadOnly):
        store.sync()
    directory.before = None
    for refused in (lambda: store.put(b"more", b""), store.compact, store.checkpoint):
        with pytest.raises(StoreReadOnly, match="a sync failed"):
            refused()
    expected = dict(store.items())
    assert store.get(b"last") == b"1"
    assert {change.key for change in store.tail()} >= set(expected)
    assert [change.value for change in store.history(b"last")] == [b"1"]
    assert store.verify().ok
    assert store.digest().keys == len(expected)
    with store.snapshot() as frozen:
        assert dict(frozen.items()) == expected
    assert store.backup(tmp_path / "copy") == store.version
    with Store(tmp_path / "copy") as copy:
        assert dict(copy.items()) == expected
        check_store(copy)
    store.close()
