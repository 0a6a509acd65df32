"""Threads share one store: writes one at a time, reads at any time."""

import random
import threading
from collections.abc import Callable

import pytest

import kvengine
from kvengine import VersionConflict
from kvengine.testing.crashing import KeptDirectory
from kvengine.testing.faulty import FaultyDirectory, Step
from kvengine.testing.history import content_of

SMALL = {"segment_bytes": 8192, "key_buffer_entries": 64, "checkpoint_records": 500}


def run_all(*jobs: Callable[[], object]) -> None:
    """Run each job in a thread of its own and raise the first error."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        try:
            start.wait()
            job()
        except BaseException as error:  # noqa: BLE001  # raised below, in the test's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture(params=["os", "group", "interval"])
def store(request, tmp_path):
    with kvengine.Store(tmp_path / "store", durability=request.param, **SMALL) as opened:
        yield opened


def test_versions_are_given_once_and_without_gaps(store):
    versions: list[int] = []

    def write(thread: int) -> None:
        for number in range(60):
            versions.append(store.put(b"%d %d" % (thread, number), b"v" * number))
            if number % 10 == 0:
                with store.batch() as batch:
                    for part in range(3):
                        batch.put(b"%d batch %d" % (thread, part), b"")
                versions.extend([batch.version - 2, batch.version - 1, batch.version])

    run_all(*(lambda n=n: write(n) for n in range(4)))
    assert sorted(versions) == list(range(1, len(versions) + 1))
    assert store.version == len(versions)
    assert len(store) == 4 * 63
    assert store.verify().ok


def test_each_thread_reads_what_it_wrote(store):
    def work(thread: int) -> None:
        source = random.Random(thread)
        mine: dict[bytes, bytes] = {}
        for _ in range(200):
            key = b"%d/%d" % (thread, source.randrange(20))
            if source.random() < 0.3:
                assert bool(store.delete(key)) == (key in mine)
                mine.pop(key, None)
            else:
                mine[key] = source.randbytes(source.randrange(600))
                store.put(key, mine[key])
            assert store.get(key) == mine.get(key)
        prefix = b"%d/" % thread
        assert {entry.key: entry.value for entry in store.scan(prefix)} == mine

    run_all(*(lambda n=n: work(n) for n in range(4)))


def test_compare_and_set_loses_no_increment(store):
    store.put(b"counter", b"0")
    all_have_read = threading.Barrier(3)

    def count() -> None:
        for number in range(40):
            entry = store.get_entry(b"counter")
            if number == 0:
                all_have_read.wait()  # so that two of three meet a conflict
            while True:
                try:
                    store.put(b"counter", b"%d" % (int(entry.value) + 1), if_version=entry.version)
                    break
                except VersionConflict:
                    entry = store.get_entry(b"counter")

    run_all(count, count, count)
    assert store[b"counter"] == b"120"


def test_readers_see_whole_batches_during_writes_and_compaction(store):
    """All keys of a batch carry one number, so a reader that sees two numbers saw half of one."""
    keys = [b"key %02d" % number for number in range(12)]

    def put_all(number: int) -> None:
        with store.batch() as batch:
            for key in keys:
                batch.put(key, b"%d " % number * 20)

    put_all(0)
    done = threading.Event()
    seen: set[bytes] = set()
    written: list[int] = []

    def write() -> None:
        try:
            for number in range(1, 100_000):
                put_all(number)
                written[:] = [number]
                if number >= 120 and len(seen) > 2:
                    break
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            values = store.get_many(keys)
            assert len(set(values)) == 1
            seen.add(values[0])
            assert len({entry.key for entry in store.scan(b"key")}) == len(keys)

    def maintain() -> None:
        while not done.is_set():
            store.compact()
            store.checkpoint()

    run_all(write, read, read, maintain)
    assert len(seen) > 1
    assert store.get_many(keys) == [b"%d " % written[0] * 20] * len(keys)
    assert store.verify().ok


def test_a_view_stays_right_while_its_segment_goes(store):
    value = random.Random(1).randbytes(5000)
    store.put(b"held", value)
    view = store.get_view(b"held")
    for number in range(50):
        store.put(b"held", b"%d" % number * 50)
    store.compact()
    assert bytes(view) == value
    assert view.readonly


def test_a_slow_sync_stops_no_reader():
    directory = FaultyDirectory(KeptDirectory())
    store = kvengine.Store._in_directory(directory)
    store.put(b"key", b"value")
    in_sync, go_on = threading.Event(), threading.Event()

    def block(step: Step) -> None:
        if step.operation == "sync":
            in_sync.set()
            assert go_on.wait(60)

    directory.before = block
    writer = threading.Thread(target=store.put, args=(b"slow", b""))
    writer.start()
    assert in_sync.wait(60)
    # Every one of these would wait forever if a reader needed what the writer holds.
    assert store.get(b"key") == b"value"
    assert list(store.keys()) == [b"key", b"slow"]
    assert store.stats().keys == 2
    assert store.put(b"quick", b"", durability="os") == 3
    assert writer.is_alive()
    go_on.set()
    writer.join()
    directory.before = None
    store.close()


def test_a_slow_compaction_stops_no_reader_and_no_writer():
    directory = FaultyDirectory(KeptDirectory())
    store = kvengine.Store._in_directory(directory, durability="os", compaction="manual", **SMALL)
    for number in range(200):
        store.put(b"key %d" % (number % 9), b"%d" % number * 40)
    begun, go_on = threading.Event(), threading.Event()

    def block(step: Step) -> None:
        if step.operation in {"sync", "rename"}:  # with "os" only the compaction does that
            begun.set()
            assert go_on.wait(60)

    compaction = threading.Thread(target=store.compact)
    directory.before = block
    compaction.start()
    assert begun.wait(60)
    assert store.get(b"key 1") == b"199" * 40
    assert store.put(b"key 1", b"new") == 201
    assert store.get(b"key 1") == b"new"
    assert compaction.is_alive()
    go_on.set()
    compaction.join()
    directory.before = None
    assert store.get(b"key 1") == b"new"
    assert len(content_of(store)) == 9
    store.close()


def test_closing_while_others_work_gives_them_a_clear_error(store):
    store.put(b"key", b"value")
    started = threading.Barrier(3)

    def work() -> None:
        started.wait()
        try:
            for number in range(1_000_000):
                store.put(b"key", b"%d" % number)
                assert store.get(b"key")
        except kvengine.StoreClosed:
            return
        raise AssertionError("the store was never closed")

    def close() -> None:
        started.wait()
        store.close()

    run_all(work, work, close)
    with pytest.raises(kvengine.StoreClosed):
        store.get(b"key")
    with kvengine.Store(store.path) as again:
        assert again.verify().ok
