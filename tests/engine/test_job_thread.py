"""The thread of a store's jobs: it starts when it must, survives everything, holds up nobody."""

import gc
import os
import threading

import pytest

from kvengine import InvalidRequest, Store, StoreClosed
from kvengine.engine import joining, opening
from kvengine.engine.jobs import job_thread, maintenance
from kvengine.engine.jobs.worker import Worker
from kvengine.testing.check import check_store
from kvengine.testing.crashing import KeptDirectory
from kvengine.testing.faulty import FaultyDirectory, Step
from tests.engine.garbage import filled
from tests.waiting import HANG_S, threads, until

# -- when there is a thread


def test_a_small_store_starts_no_thread(tmp_path):
    before = threads()
    for durability in ("group", "sync", "os"):
        with Store(tmp_path / durability, durability=durability) as store:
            store.put(b"key", b"value")
            store.delete(b"key")
            assert store.get(b"key") is None
            until(lambda: threads() == before, "its thread ends")
    until(lambda: threads() == before, "its thread ends")


@pytest.mark.parametrize("durability", ["os", "interval"])
def test_close_leaves_no_thread(tmp_path, durability):
    before = threads()
    with filled(tmp_path, durability=durability) as store:
        store.compact()
        count = before + 1 + (durability == "interval")
        until(lambda: threads() == count, "the thread that tells others of the job ends")
    until(lambda: threads() == before, "its thread ends")


def test_a_store_that_is_dropped_leaves_no_thread(tmp_path):
    before = threads()
    store = filled(tmp_path, durability="interval")
    store.compact()
    del store  # the background may hold it for the rest of a job
    until(lambda: threads() == before, "its threads end")
    Store(tmp_path).close()


def test_an_open_that_fails_leaves_no_thread_and_no_lock(tmp_path, monkeypatch):
    before = threads()
    filled(tmp_path).close()

    def fail(store):
        raise KeyboardInterrupt

    monkeypatch.setattr(maintenance, "save_rebuilt", fail)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path, rebuild=True, durability="interval")
    until(lambda: threads() == before, "its thread ends")
    with Store(tmp_path) as store:
        assert len(store) == 20


@pytest.mark.parametrize("step", ["load_manifest", "open_control", "recover"])
def test_an_open_that_is_interrupted_twice_is_undone_when_it_is_dropped(
    tmp_path, monkeypatch, caplog, step
):
    """The second interruption comes while the first is cleaned up after."""
    filled(tmp_path).close()

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(joining, step, interrupt)
        patch.setattr(opening, "_give_up", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path)
    gc.collect()
    assert caplog.messages == []
    with Store(tmp_path) as store:
        assert len(store) == 20


# -- what goes wrong in the background


@pytest.mark.parametrize(
    "error", [SystemExit, KeyboardInterrupt, RuntimeError, MemoryError, OSError]
)
def test_the_background_survives_any_exception(tmp_path, monkeypatch, caplog, error):
    monkeypatch.setattr(job_thread, "RETRY_S", 0.01)
    failing, worked = [True], threading.Event()

    def work(store):
        if failing:
            raise error("of the test")
        worked.set()

    with Store(tmp_path, durability="os") as store:
        assert (store.stats().failures, store.stats().last_error) == (0, None)
        store._parts.maintenance._work = work
        store._parts.maintenance.wake()
        until(lambda: store.stats().failures >= 3, "it is tried again and again")
        stats = store.stats()
        assert stats.last_error == f"{error.__name__}: of the test"
        assert stats.last_error_at is not None
        store.compact()  # jobs that are asked for go on
        failing.clear()
        assert worked.wait(HANG_S)
        until(lambda: store.stats().failures == 0, "it is told that it works again")
        assert store.stats().last_error == f"{error.__name__}: of the test"
    messages = [record.message for record in caplog.records if "of the test" in record.message]
    assert len(messages) == 1  # logged once, not with each attempt


def test_the_background_goes_on_when_another_store_has_taken_its_jobs(tmp_path):
    """That one may be killed before it has done them."""
    begun, again = [], threading.Event()
    with Store(tmp_path, durability="os") as store, Store(tmp_path) as other:

        def work(store):
            if begun:
                again.set()
            begun.append("work")
            until(lambda: other._parts.claim_jobs(other._parts.token, 0), "one millisecond is over")
            store._parts.maintenance.check()
            pytest.fail("it has no lease any more")

        store._parts.maintenance._work = work
        store._parts.maintenance.wake()
        until(lambda: begun, "it begins")
        other._parts.end_jobs(other._parts.token)
        until(again.is_set, "it comes back, and nobody woke it")


def test_who_only_follows_does_what_the_writer_left(tmp_path):
    """The writer's own thread does nothing, as if it were killed."""
    options = {"durability": "os", "segment_bytes": 4096}
    with Store(tmp_path, **options) as writer, Store(tmp_path, **options) as other:
        writer._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
        for number in range(3):
            writer.put(b"%d" % number, bytes(4096))
        assert len(other) == 3
        until(lambda: other._parts.manifest.segments, "it closes the segments that are full")


def test_attempts_come_later_each_time():
    failures = job_thread.Failures()
    pauses = []
    for _ in range(12):
        failures.note(OSError(5, "no"))
        pauses.append(failures.pause_s())
    assert pauses[:3] == [1, 2, 4]
    assert max(pauses) == pauses[-1] == job_thread.RETRY_MAX_S


def test_a_handler_of_the_log_that_raises_ends_nothing(monkeypatch):
    def fail(*arguments):
        raise SystemExit

    monkeypatch.setattr(job_thread.logger, "warning", fail)
    failures = job_thread.Failures()
    failures.note(OSError(5, "no"))
    assert failures.consecutive == 1


def test_where_no_thread_can_be_started_a_job_runs_in_its_caller(tmp_path, monkeypatch):
    class NoThread(Worker):
        def wake(self):
            return False

    monkeypatch.setattr(job_thread, "Worker", NoThread)
    with filled(tmp_path) as store:
        assert store.compact() > 0
        check_store(store)


# -- who calls, and what they gave to be called


def test_progress_runs_in_the_thread_of_the_caller_and_may_use_the_store(tmp_path):
    calls = []
    with filled(tmp_path) as store:

        def progress(done, total):
            calls.append((threading.get_ident(), done, total))
            store.put(b"from progress", b"%d" % done)
            store.checkpoint()

        store.compact(progress)
        assert {thread for thread, _, _ in calls} == {threading.get_ident()}
        assert calls[-1][1] == calls[-1][2] > 0
        for call in (store.verify, lambda progress: store.backup(tmp_path / "copy", progress)):
            calls.clear()
            call(progress)
            assert {thread for thread, _, _ in calls} == {threading.get_ident()}
        check_store(store)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["compact", "verify", "backup"])
def test_an_exception_of_progress_ends_the_call_and_nothing_else(tmp_path, call, error):
    def progress(done, total):
        raise error("enough")

    with filled(tmp_path / "store") as store:
        before = dict(store.items())
        arguments = [tmp_path / "copy"] if call == "backup" else []
        with pytest.raises(error, match="enough"):
            getattr(store, call)(*arguments, progress)
        assert dict(store.items()) == before
        store.compact()
        store.backup(tmp_path / "second")
        check_store(store)


def test_a_slow_progress_of_a_backup_holds_up_no_job(tmp_path):
    """Files that a job replaces meanwhile stay until the backup has them."""
    with filled(tmp_path / "store") as store:
        expected = dict(store.items())
        version = store.version

        def progress(done, total):
            store.update({b"%d" % number: b"later" for number in range(20)})
            store.compact()

        assert store.backup(tmp_path / "copy", progress) == version
        assert store._parts.pins.count == 0
        store.checkpoint()
        assert not store._parts.loose
        check_store(store)
    with Store(tmp_path / "copy") as copy:
        assert dict(copy.items()) == expected
        check_store(copy)


def test_a_job_inside_a_job_is_refused(tmp_path):
    """A finalizer that the collector runs there may ask for one: it must not hang."""
    with filled(tmp_path) as store:
        errors = []

        def inside():
            for call in (store.compact, store.checkpoint, store.close):
                with pytest.raises(InvalidRequest, match="inside") as raised:
                    call()
                errors.append(raised)

        store._parts.maintenance.run(inside)
        assert len(errors) == 3
        assert store.compact() > 0


def test_who_waits_for_a_job_hears_that_the_store_was_closed(tmp_path):
    directory = FaultyDirectory(KeptDirectory())
    store = filled(directory)
    begun, go_on = threading.Event(), threading.Event()

    def block(step: Step) -> None:
        if step.operation == "create" and not begun.is_set():
            begun.set()
            assert go_on.wait(HANG_S)

    errors = []

    def compact():
        try:
            store.compact()
        except StoreClosed as error:
            errors.append(error)

    directory.before = block
    threads = [threading.Thread(target=compact) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(HANG_S)
    closing = threading.Thread(target=store.close)
    closing.start()
    go_on.set()
    for thread in (*threads, closing):
        thread.join(HANG_S)
        assert not thread.is_alive()
    assert store.closed
    with Store._in_directory(directory.inner) as reopened:
        assert len(reopened) == 20
        check_store(reopened)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_fork_neither_waits_for_the_thread_nor_disturbs_it(tmp_path):
    with filled(tmp_path) as store:
        store.compact()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                store.put(b"more", b"of the child")
                store.compact()
                store.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert store.get(b"more") == b"of the child"
        store.put(b"more", b"1")
        store.compact()
        check_store(store)
