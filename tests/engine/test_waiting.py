"""wait() returns when there is something new; tail(follow=True) gives it, once and in order."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvengine import InvalidRequest, StorageError, Store, StoreClosed
from kvengine.engine.log.futex import HAS_FUTEX
from kvengine.entry import Change
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store():
    with Store.in_memory(compaction="manual") as opened:
        yield opened


def later(call):
    """Run a call in a thread; return the thread and where its result or error will be."""
    found = []

    def run():
        try:
            found.append(call())
        except Exception as error:  # noqa: BLE001  # the test looks at it
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_it_returns_at_once_when_there_is_something_new(store):
    store.put(b"a", b"1")
    assert store.wait(0) == 1
    assert store.wait(0, 0) == 1


def test_it_ends_after_a_time_with_the_present_version(store):
    started = time.monotonic()
    assert store.wait(0, 0.05) == 0
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize("change", ["put", "delete", "batch", "update"])
def test_every_kind_of_write_wakes(store, change):
    store.put(b"a", b"1")
    version = store.version
    waiting = [later(lambda: store.wait(version)) for _ in range(3)]
    if change == "put":
        store.put(b"a", b"2")
    elif change == "delete":
        store.delete(b"a")
    elif change == "batch":
        with store.batch() as batch:
            batch.put(b"b", b"1")
            batch.put(b"c", b"1")
    else:
        store.update({b"b": b"1"})
    for thread, found in waiting:
        thread.join(30)
        assert found == [store.version]


def test_closing_ends_the_wait_with_an_error(store):
    thread, found = later(lambda: store.wait(0))
    time.sleep(0.02)
    store.close()
    thread.join(30)
    assert isinstance(found[0], StoreClosed)


def test_nobody_is_counted_as_waiting_afterwards(store):
    store.wait(0, 0)
    assert store._parts.waiters == 0


def test_a_reader_sees_news_of_a_writer(tmp_path):
    with Store(tmp_path / "s") as writer, Store(tmp_path / "s", read_only=True) as reader:
        thread, found = later(lambda: reader.wait(0))
        time.sleep(0.02)
        writer.put(b"a", b"1")
        thread.join(30)
        assert found == [1]
        assert reader.wait(1, 0.01) == 1


def test_what_can_not_change_is_not_waited_for_without_end(store):
    with store.snapshot() as frozen:
        with pytest.raises(InvalidRequest, match="never changes"):
            frozen.wait(frozen.version)
        assert frozen.wait(frozen.version, 0.01) == frozen.version


# -- tails


def test_a_tail_gives_only_changes_of_its_prefix(store):
    for key in (b"a1", b"b1", b"a", b"a2", b"ab"):
        store.put(key, key)
    store.delete(b"a1")
    assert [change.key for change in store.tail(prefix=b"a")] == [b"a1", b"a", b"a2", b"ab", b"a1"]
    assert [change.key for change in store.tail(3, prefix=b"a")] == [b"a2", b"ab", b"a1"]
    assert list(store.tail(prefix=b"z")) == []


def test_history_gives_exactly_one_key(store):
    for value in (b"1", b"2" * 9000, b"3"):
        store.put(b"key", value)
        store.put(b"key2", b"other")
        store.put(b"ke", b"other")
    store.delete(b"key")
    store.put(b"key", b"4", metadata=b"m", expires_at=4e9)
    found = list(store.history(b"key"))
    assert [change.value for change in found] == [b"1", b"2" * 9000, b"3", b"", b"4"]
    assert found[-1] == Change(11, "put", b"key", b"4", b"m", 4e9)
    store.compact()
    assert list(store.history(b"key"))[-1:] == found[-1:]


def test_following_gives_everything_once_across_segments_and_compaction():
    with Store.in_memory(segment_bytes=4096, compaction="manual") as store:
        found = []

        def follow():
            for change in store.tail(follow=True, prefix=b"n"):
                found.append(change)
                if change.key == b"n-last":
                    return

        thread, _ = later(follow)
        for number in range(3000):
            store.put(b"n%04d" % number, b"x" * 50)
            store.put(b"other", b"x" * 50)
            if number % 1000 == 999:
                store.compact()
        store.put(b"n-last", b"")
        thread.join(60)
    assert [change.key for change in found[:-1]] == [b"n%04d" % number for number in range(3000)]
    versions = [change.version for change in found]
    assert versions == sorted(set(versions))


def test_following_ends_when_nothing_came_for_a_time(store):
    store.put(b"a", b"1")
    assert [change.key for change in store.tail(follow=True, timeout=0)] == [b"a"]
    assert [change.key for change in store.tail(1, follow=True, timeout=0.02)] == []


def test_a_tail_from_now_does_not_read_what_is_behind_it(store):
    store.put(b"a", b"1" * 5000)
    tail = store.tail(1, follow=True, timeout=30)
    store.put(b"b", b"2")
    assert next(tail).key == b"b"


# -- in another process

WAITER = """
import sys
from kvengine import Store
with Store(sys.argv[1], read_only=True) as store:
    version = store.version
    print("ready", flush=True)
    while True:
        version = store.wait(version)
        print(version, flush=True)
"""


def is_waited_for(path):
    """True if the futex says that somebody may sleep."""
    return bool((path / "CONTROL").read_bytes()[56] & 1)


def until_waited_for(path):
    until(lambda: is_waited_for(path), "somebody sleeps")


@pytest.fixture
def waiter(tmp_path):
    Store(tmp_path / "s").close()
    process = subprocess.Popen(
        [sys.executable, "-c", WAITER, tmp_path / "s"], stdout=subprocess.PIPE, cwd=ROOT
    )
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(not HAS_FUTEX, reason="this system has no futex")
def test_another_process_sleeps_until_it_is_woken(tmp_path, waiter):
    with Store(tmp_path / "s", durability="os") as store:
        store.put(b"a", b"")
        assert waiter.stdout.readline() == b"ready\n"
        for _ in range(20):
            until_waited_for(tmp_path / "s")
            version = store.put(b"a", b"")
            assert int(waiter.stdout.readline()) == version
        used = Path(f"/proc/{waiter.pid}/stat").read_text().split()[13:15]
        time.sleep(0.3)
        assert Path(f"/proc/{waiter.pid}/stat").read_text().split()[13:15] == used  # no spinning


@pytest.mark.skipif(not HAS_FUTEX, reason="this system has no futex")
def test_a_waiter_that_is_killed_disturbs_nobody(tmp_path, waiter):
    with Store(tmp_path / "s", durability="os") as store:
        store.put(b"a", b"")
        assert waiter.stdout.readline() == b"ready\n"
        until_waited_for(tmp_path / "s")
        waiter.kill()
        waiter.wait()
        assert is_waited_for(tmp_path / "s")
        store.put(b"a", b"")
        assert not is_waited_for(tmp_path / "s")


def test_other_threads_run_and_closing_ends_the_wait_of_a_reader(tmp_path):
    with Store(tmp_path / "s", durability="os"):
        reader = Store(tmp_path / "s", read_only=True)
        thread, found = later(lambda: reader.wait(0))
        time.sleep(0.02)  # with the GIL held in there this test would not go on
        reader.close()
        thread.join(30)
        assert isinstance(found[0], StoreClosed)


@pytest.mark.skipif(not HAS_FUTEX, reason="this system has no futex")
def test_without_the_right_to_write_the_reader_looks_now_and_then(tmp_path, monkeypatch):
    with Store(tmp_path / "s", durability="os") as writer:
        reader = Store(tmp_path / "s", read_only=True)
        opening = reader._parts.directory.open

        def refused(name, **options):
            if options.get("writable"):
                raise StorageError(13, "not allowed", name)
            return opening(name, **options)

        monkeypatch.setattr(reader._parts.directory, "open", refused)
        thread, found = later(lambda: reader.wait(0))
        time.sleep(0.02)
        assert not is_waited_for(tmp_path / "s")
        writer.put(b"a", b"")
        thread.join(30)
        assert found == [1]
        reader.close()
