"""Small is small: tests make thousands of stores, and none of them may cost much or leave anything.

A store in memory is the same code, so it takes and gives the same.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from kvengine import LogCompacted, Store, StoreClosed, VersionConflict
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock

SMALL_BYTES = 100_000
MEMORY = Path("/dev/shm")
needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
MANY = 10_000 if os.environ.get("KVENGINE_LONG") == "1" else 2000
ROOT = Path(__file__).parent.parent.parent

# Prints how many bytes of memory one store takes: new, with one key, and after it is gone, when
# the allocator may keep pages with holes; and how many objects of ours are left of all of them.
MEASURE = """
import gc, sys, kvengine
def resident():
    # Without programs and libraries, whose pages come and go; status is only about right.
    total, counts = 0, False
    for line in open("/proc/self/smaps"):
        parts = line.split()
        if not parts[0].endswith(":"):
            path = parts[5] if len(parts) > 5 else "["
            counts = path.startswith(("[", "/memfd")) or path.startswith(sys.argv[1])
        elif counts and parts[0] == "Rss:":
            total += 1024 * int(parts[1])
    return total
def objects():
    gc.collect()
    return sum("kvengine" in str(type(one).__module__) for one in gc.get_objects())
def begin(number):
    if sys.argv[1] == "memory":
        return kvengine.Store.in_memory()
    return kvengine.Store(f"{sys.argv[1]}/{number}", durability="os")
stores = [begin(number) for number in range(20)]  # what comes with the first is not counted
for store in stores:
    store[b"key"] = b"value"
    store.close()
del stores, store
left = objects()
before = resident()
stores = [begin(number) for number in range(100, 300)]
empty = resident()
for store in stores:
    store[b"key"] = b"value"
written = resident()
for store in stores:
    store.close()
del stores, store
left = objects() - left
print([(figure - before) // 200 for figure in (empty, written, resident())], left, sep=", ")
"""


def blocks(path):
    """Return the bytes of disk that a folder takes."""
    return sum(file.stat().st_blocks * 512 for file in [path, *path.iterdir()])


@pytest.mark.parametrize("durability", ["group", "os"])
def test_a_small_store_takes_little_disk(tmp_path, durability):
    path = tmp_path / "store"
    with Store(path, durability=durability) as store:
        assert blocks(path) < SMALL_BYTES
        assert len(list(path.iterdir())) <= 4
    assert blocks(path) < SMALL_BYTES
    with Store(path, durability=durability) as store:
        for number in range(100):
            store[b"%d" % number] = b"value" * 10
        assert blocks(path) < SMALL_BYTES
    assert blocks(path) < SMALL_BYTES


def test_files_grow_with_the_data(tmp_path):
    with Store(tmp_path / "store", durability="os") as store:
        for _ in range(4):
            data = store.stats().log_bytes
            assert blocks(tmp_path / "store") < 3 * data + SMALL_BYTES
            store.update({b"%d %d" % (data, n): bytes(100) for n in range(data // 50 + 1000)})


@needs_proc
@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_a_small_store_takes_little_memory(tmp_path, kind):
    """Some were there before and are gone, as in a run of many tests."""
    child = subprocess.run(
        [sys.executable, "-c", MEASURE, "memory" if kind == "memory" else str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (empty, written, gone), left = eval(child.stdout)
    assert empty < SMALL_BYTES
    assert written < SMALL_BYTES
    assert gone < SMALL_BYTES / 3
    assert left == 0


def held():
    """What this process holds: open files, threads, mappings of files."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines()
    stores = [line for line in maps if ".log" in line or "CONTROL" in line or "memfd" in line]
    return len(os.listdir("/proc/self/fd")), len(stores), len(maps), set(threading.enumerate())


def compare(before, after):
    """See that nothing is there but what was; of that some may be gone, of tests before this."""
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    assert after[2] <= before[2] + 20  # the allocator's own
    assert after[3] <= before[3]


@pytest.fixture
def memory_folder():
    """A folder where a sync costs nothing, so that thousands of stores take seconds."""
    parent = MEMORY if MEMORY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="kvengine-small-", dir=parent))
    yield folder
    shutil.rmtree(folder)


def use_once(path, number):
    """Make a store, write, look at it with a reader now and then, close and delete it."""
    with Store(path, durability="os") as store:
        store[b"key"] = b"value %d" % number
        assert store[b"key"] == b"value %d" % number
        if number % 10 == 0:
            with Store(path, read_only=True) as reader:
                assert reader[b"key"] == b"value %d" % number
    shutil.rmtree(path)


@needs_proc
@pytest.mark.parametrize(("folder", "count"), [("memory_folder", MANY), ("tmp_path", 50)])
def test_thousands_of_stores_leave_nothing_behind(request, folder, count):
    parent = request.getfixturevalue(folder)
    for number in range(20):
        use_once(parent / "store", number)
    before = held()
    for number in range(count):
        use_once(parent / str(number % 7), number)
    compare(before, held())
    assert list(parent.iterdir()) == []


@needs_proc
def test_stores_in_memory_leave_nothing_behind():
    def use(number):
        store = Store.in_memory()
        store[b"key"] = b"value"
        if number % 2:
            store.close()  # else it is only dropped

    for number in range(20):
        use(number)
    before = held()
    for number in range(2000):
        use(number)
    compare(before, held())


def test_a_small_store_has_no_thread(tmp_path):
    before = set(threading.enumerate())
    with Store(tmp_path / "store", durability="os") as store, Store.in_memory() as other:
        for each in (store, other):
            each.update({b"%d" % number: b"" for number in range(1000)})
            each.clear()
        assert set(threading.enumerate()) <= before


# -- in memory it is the same


def scenario(store, clock):
    """Use a store in many ways; return all it answered."""
    store._parts.maintenance.wake = lambda: None  # it would number files in another order each time
    said = [store.put(b"%03d" % (n % 90), b"v%d" % n * 9, metadata=b"m") for n in range(300)]
    said.append(store.put(b"goes", b"", expires_at=clock.time() + 1))
    said.append(store.put(b"large", b"L" * 70_000))
    with store.batch() as batch:
        batch.put(b"in a batch", b"1")
        batch.delete(b"001")
    said += [batch.version, store.delete(b"002"), store.delete(b"002")]
    with pytest.raises(VersionConflict) as caught:
        store.put(b"003", b"", if_version=5)
    said += [str(caught.value), list(store.tail(290))]
    clock.advance(1)
    said += [store.compact(), list(store.tail()), list(store.scan()), len(store)]
    with pytest.raises(LogCompacted) as gone:
        store.tail(1)
    view = store.get_view(b"large")
    said += [
        str(gone.value),
        store.get_many([b"001", b"004"]),
        b"goes" in store,
        view[:3].tobytes(),
    ]
    store.checkpoint()
    said += [store.put(b"after", b"all"), list(store.keys(b"0", start_after=b"050", reverse=True))]
    stats, report = store.stats(), store.verify()
    said += [stats.keys, stats.log_bytes, stats.live_bytes, stats.segments, stats.key_runs]
    said += [report, sorted(store._parts.directory.names())]
    check_store(store)
    store.close()
    with pytest.raises(StoreClosed):
        store.get(b"004")
    said.append(bytes(view[-3:]))
    return said


def test_memory_and_disk_answer_the_same(tmp_path):
    options = {"segment_bytes": 8192, "key_buffer_entries": 64, "compaction": "manual"}
    answers = []
    for kind in ("memory", "disk"):
        clock = ManualClock()
        if kind == "memory":
            store = Store.in_memory(clock=clock, **options)
        else:
            store = Store(tmp_path / "store", clock=clock, durability="os", **options)
        answers.append(scenario(store, clock))
    memory, disk = answers
    disk[-2] = [name for name in disk[-2] if name not in ("LOCK", "OPENING")]
    assert memory == disk
    assert len(memory) > 300


def test_stores_in_memory_know_nothing_of_each_other():
    with Store.in_memory() as one, Store.in_memory() as other:
        one[b"key"] = b"1"
        assert list(other) == []
        assert (one.path, one.stats().disk_bytes) == (":memory:", 0)
        one.close()
        other[b"key"] = b"2"
        assert other[b"key"] == b"2"
