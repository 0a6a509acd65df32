"""Who syncs when: how far a write has got when its call returns."""

import errno
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

import kvengine
from kvengine import InvalidRequest, StoreReadOnly
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory, Step
from kvengine.testing.history import content_of


def opened(**options: object) -> tuple[kvengine.Store, FaultyDirectory]:
    directory = FaultyDirectory(KeptDirectory())
    store = kvengine.Store._in_directory(directory, **options)
    store.put(b"first", b"", durability="sync")  # makes the first segment and its name durable
    return store, directory


def log_syncs(directory: FaultyDirectory) -> int:
    return directory.count("sync", ".log")


def after_power_cut(directory: FaultyDirectory) -> dict[bytes, bytes]:
    """Return what is left when only synced bytes are."""
    left = CrashedFolder(directory.recording, len(directory.steps)).folder("ordered")
    with kvengine.Store._in_directory(left) as store:
        return {key: value for key, (value, _) in content_of(store).items()}


@pytest.mark.parametrize("durability", ["group", "sync"])
def test_one_durable_put_is_one_sync(durability):
    store, directory = opened(durability=durability)
    for number in range(1, 6):
        before = log_syncs(directory)
        store.put(b"key %d" % number, b"value")
        assert log_syncs(directory) == before + 1
        assert after_power_cut(directory)[b"key %d" % number] == b"value"
    store.close()


@pytest.mark.parametrize("durability", ["group", "sync"])
def test_a_batch_and_a_delete_are_one_sync_too(durability):
    store, directory = opened(durability=durability)
    before = log_syncs(directory)
    with store.batch() as batch:
        for number in range(100):
            batch.put(b"%d" % number, b"")
    assert log_syncs(directory) == before + 1
    assert store.delete(b"7")
    assert log_syncs(directory) == before + 2
    assert b"7" not in after_power_cut(directory)
    store.close()


@pytest.mark.parametrize("durability", ["group", "sync"])
def test_what_writes_nothing_syncs_nothing(durability):
    store, directory = opened(durability=durability)
    before = log_syncs(directory)
    assert store.delete(b"absent") == 0
    store.batch().commit()
    with pytest.raises(kvengine.VersionConflict):
        store.put(b"first", b"", if_version=77)
    store.sync()
    store.get(b"first")
    list(store.scan())
    assert log_syncs(directory) == before
    store.close()


def test_os_never_syncs_until_asked():
    store, directory = opened(durability="os")
    before = log_syncs(directory)
    for number in range(50):
        store.put(b"key %d" % number, b"value")
    assert log_syncs(directory) == before
    assert after_power_cut(directory) == {b"first": b""}
    store.sync()
    assert log_syncs(directory) == before + 1
    assert len(after_power_cut(directory)) == 51
    store.sync()
    assert log_syncs(directory) == before + 1  # nothing new, nothing to do
    store.close()
    assert log_syncs(directory) == before + 1


@pytest.mark.parametrize("durability", ["group", "sync", "interval"])
def test_close_makes_everything_durable(durability):
    store, directory = opened(durability=durability, sync_interval_s=60)
    store.put(b"key", b"value")
    store.close()
    assert after_power_cut(directory) == {b"first": b"", b"key": b"value"}


@pytest.mark.parametrize("level", ["group", "sync"])
def test_one_call_may_ask_for_more(level):
    store, directory = opened(durability="os")
    store.put(b"before", b"")
    before = log_syncs(directory)
    store.put(b"now", b"", durability=level)
    assert log_syncs(directory) == before + 1
    assert set(after_power_cut(directory)) == {b"first", b"before", b"now"}  # in order, no holes
    with store.batch(durability=level) as batch:
        batch.put(b"batch", b"")
    store.delete(b"batch", durability=level)
    assert log_syncs(directory) == before + 3
    store.close()


def test_one_call_may_ask_for_less():
    store, directory = opened(durability="group")
    before = log_syncs(directory)
    store.put(b"a", b"", durability="os")
    store.put(b"b", b"", durability="interval")
    assert log_syncs(directory) == before
    store.put(b"c", b"")
    assert set(after_power_cut(directory)) == {b"first", b"a", b"b", b"c"}
    store.close()


@pytest.mark.parametrize("level", ["", "fsync", 1, b"os"])
def test_an_unknown_level_writes_nothing(level):
    with kvengine.Store.in_memory() as store:
        with pytest.raises(InvalidRequest):
            store.put(b"key", b"", durability=level)
        with pytest.raises(InvalidRequest):
            store.delete(b"key", durability=level)
        assert store.version == 0


def test_interval_syncs_in_the_background():
    directory = FaultyDirectory(KeptDirectory())
    synced = threading.Event()

    def watch(step: Step) -> None:
        in_background = threading.current_thread() is not threading.main_thread()
        if in_background and step.operation == "sync" and step.name.endswith(".log"):
            synced.set()

    directory.before = watch
    store = kvengine.Store._in_directory(directory, durability="interval", sync_interval_s=0.001)
    store.put(b"key", b"value")
    assert synced.wait(60)
    store.close()
    assert after_power_cut(directory) == {b"key": b"value"}


def test_threads_share_a_sync():
    """While one thread syncs, seven more write; one more sync must do for all of them."""
    store, directory = opened(durability="group")
    first_syncs, go_on = threading.Event(), threading.Event()

    def block_first(step: Step) -> None:
        if step.operation == "sync" and not first_syncs.is_set():
            first_syncs.set()
            assert go_on.wait(60)

    directory.before = block_first
    before = log_syncs(directory)
    leader = threading.Thread(target=store.put, args=(b"leader", b""))
    leader.start()
    assert first_syncs.wait(60)
    writers = [threading.Thread(target=store.put, args=(b"key %d" % n, b"")) for n in range(7)]
    for writer in writers:
        writer.start()
    written = threading.Event()
    while store.version < 9 and not written.wait(0.001):  # all have written and wait for the disk
        pass
    go_on.set()
    for thread in [leader, *writers]:
        thread.join()
    assert log_syncs(directory) == before + 2
    assert len(after_power_cut(directory)) == 9
    store.close()


def test_sync_level_shares_with_nobody():
    store, directory = opened(durability="sync")
    before = log_syncs(directory)
    writers = [threading.Thread(target=store.put, args=(b"key %d" % n, b"")) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert log_syncs(directory) == before + 8
    store.close()


def test_a_failed_sync_fails_all_who_wait_for_it():
    store, directory = opened(durability="group")
    waiting, go_on = threading.Event(), threading.Event()

    def fail(step: Step) -> None:
        if step.operation == "sync":
            waiting.set()
            assert go_on.wait(60)
            raise OSError(errno.EIO, "no more")

    directory.before = fail
    outcomes: list[object] = []

    def write(number: int) -> None:
        try:
            outcomes.append(store.put(b"key %d" % number, b""))
        except StoreReadOnly as error:
            outcomes.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    threads[0].start()
    assert waiting.wait(60)
    for thread in threads[1:]:
        thread.start()
    pause = threading.Event()
    while store.version < 5 and not pause.wait(0.001):
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert all(isinstance(outcome, StoreReadOnly) for outcome in outcomes)
    directory.before = None
    assert store.get(b"first") == b""
    store.close()


@pytest.mark.parametrize("is_closed", [False, True], ids=["killed", "closed"])
def test_a_failed_sync_is_not_forgotten_with_the_processes_that_saw_it(is_closed):
    """The pages that it was to write are clean to the kernel, and no later sync writes them."""
    store, directory = opened(durability="group", segment_bytes=4096, compaction="manual")
    store.put(b"filled", bytes(4000), durability="os")

    def fail(step: Step) -> None:
        if step.operation == "sync":
            raise OSError(errno.EIO, "no more")

    directory.before = fail
    with pytest.raises(StoreReadOnly):
        store.put(b"visible", b"not on disk")
    assert len(store._parts.rows) > 1
    if is_closed:
        store.close()
    with pytest.raises(kvengine.StorageError):  # nor with one that could not write them again
        kvengine.Store._in_directory(directory)
    directory.before = None
    with kvengine.Store._in_directory(directory, durability="group") as after:
        after.put(b"last", b"on disk")
        expected = {key: value for key, (value, _) in content_of(after).items()}
        assert b"visible" in expected  # the folder of this test forgets no clean pages
        assert after_power_cut(directory) == expected
    store.close()


def test_what_a_failed_sync_has_lost_is_no_damage_to_the_next_one(tmp_path):
    """The kernel may have dropped the pages by then, and the disk has what was there before."""
    store = kvengine.Store(tmp_path, durability="group", log_writes="pwrite")
    store.put(b"first", b"on disk")
    store.put(b"second", b"in memory", durability="os")
    row = store._parts.rows[-1]
    _, end, *_ = store._parts.segment_table.counters(row.id)
    store._parts.commits.fail(OSError(errno.EIO, "no more"))
    file = store._parts.segment_table.segment_file(row.id)
    file.write(bytes(40), end - 40)
    store._parts.directory.close()  # as if it were killed
    with kvengine.Store(tmp_path) as after:
        assert dict(after) == {b"first": b"on disk"}


def test_a_new_segment_has_its_name_synced_before_a_write_counts():
    store, directory = opened(durability="group", segment_bytes=4096, compaction="manual")
    for number in range(30):
        store.put(b"key %d" % number, b"v" * 1000)
        assert b"key %d" % number in after_power_cut(directory)
    assert directory.count("create", ".log") > 4
    store.close()


def test_making_a_store_durable_includes_its_manifest():
    """Also if it was made by one that did not care: a later sync vouches for everything."""
    directory = FaultyDirectory(KeptDirectory())
    store = kvengine.Store._in_directory(directory, durability="os")
    store.put(b"key", b"value", durability="group")
    assert after_power_cut(directory) == {b"key": b"value"}
    store.close()


# -- on a real disk, where the sync is made without the GIL


def test_a_sync_that_the_system_refuses_makes_the_store_read_only(tmp_path):
    with kvengine.Store(tmp_path, durability="group") as store:
        store.put(b"first", b"1")
        store.put(b"second", b"2")  # from here on only one file needs a sync
        (row,) = store._parts.rows
        descriptor = store._parts.segment_table.segment_file(row.id).descriptor
        with open("/dev/null", "r+b") as nowhere:  # takes writes, refuses to be synced
            os.dup2(nowhere.fileno(), descriptor)
        with pytest.raises(StoreReadOnly, match="sync failed") as failure:
            store.put(b"third", b"3")
        assert failure.value.cause.errno == errno.EINVAL
        with pytest.raises(StoreReadOnly, match="sync failed"):
            store.put(b"fourth", b"4", durability="os")
        assert (store[b"first"], store[b"second"]) == (b"1", b"2")
    with kvengine.Store(tmp_path) as store:
        assert dict(store) == {b"first": b"1", b"second": b"2"}


WRITERS = """
import sys, threading
from kvengine import Store
with Store(sys.argv[1], durability="group", log_writes="pwrite") as store:
    def write(number):
        for turn in range(20):
            store.put(b"%d %d" % (number, turn), b"x" * 50)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert store._parts.commits.durable_version == store._parts.commits.version
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: it counts syncs")
def test_threads_share_syncs_of_a_real_file(tmp_path):
    """Each put is behind a sync that began after its write, and there are fewer syncs than puts."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=fdatasync,pwrite64"]
    command += [sys.executable, "-c", WRITERS, str(tmp_path / "store")]
    subprocess.run(command, check=True, timeout=120)
    calls = re.findall(r"(fdatasync|pwrite64)\(", trace.read_text())
    assert calls.count("pwrite64") >= 160
    assert 20 <= calls.count("fdatasync") < 160
    with kvengine.Store(tmp_path / "store") as store:
        assert len(store) == 160
