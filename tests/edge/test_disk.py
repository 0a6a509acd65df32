"""Copies on disk survive, stay within their room, and a disk that fails costs only the copies."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import Database, Edge, NotAStore, Store, StoreLocked, UpstreamUnavailable
from kvengine.edge.disk import DiskCache
from kvengine.edge.lookup import CacheEntry
from kvengine.edge.messages import ChangeEvent
from kvengine.testing.crashing import KeptDirectory
from kvengine.testing.faulty import FaultyDirectory
from tests.edge.bench import Bench

ROOT = Path(__file__).parent.parent.parent


def copy(value, version=1, as_of=5):
    return CacheEntry(value, b"meta", 4e9, version, as_of, 0.0)


def values(disk, *keys):
    found = [disk.get(key) for key in keys]
    return [cached and cached.value for cached in found]


def test_a_copy_is_what_it_was_but_for_its_age(tmp_path):
    disk = DiskCache(tmp_path / "d", 1 << 20)
    disk.reach(5, 2)
    disk.keep(b"k", copy(b"v" * 5000, 3, 4))
    disk.keep(b"gone", copy(b"x"))
    disk.drop(b"gone")
    with pytest.raises(StoreLocked):
        DiskCache(tmp_path / "d", 1 << 20)
    disk.close()
    disk.close()
    disk = DiskCache(tmp_path / "d", 1 << 20)
    cached = disk.get(b"k")
    assert (cached.value, cached.metadata, cached.expires_at) == (b"v" * 5000, b"meta", 4e9)
    assert (cached.version, cached.as_of, cached.validated_at) == (3, 4, float("-inf"))
    assert disk.get(b"gone") is None
    assert disk.position == (5, 2)
    disk.clear()
    disk.close()
    disk = DiskCache(tmp_path / "d", 1 << 20)
    assert (disk.position, disk.get(b"k"), disk.size()) == (None, None, 0)
    disk.close()


def test_after_a_kill_nothing_that_was_dropped_before_the_position_is_there(tmp_path):
    code = """
import sys
from kvengine.edge.disk import DiskCache
from kvengine.edge.lookup import CacheEntry
disk = DiskCache(sys.argv[1], 1 << 20)
disk.reach(0, 0)
for version in range(1, 1 << 30):
    disk.keep(b"k%d" % version, CacheEntry(b"v", b"", None, version, version, 0.0))
    disk.drop(b"k%d" % (version - 3))
    disk.reach(version, version // 7)
    if version % 100 == 0:
        print(version, flush=True)
"""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "d")], stdout=subprocess.PIPE, cwd=ROOT
        ) as process:
            for _ in range(5):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        disk = DiskCache(tmp_path / "d", 1 << 20)
        assert disk.position is not None
        position, covered_from = disk.position
        assert position >= 490
        assert covered_from == position // 7
        there = [n for n in range(1, position + 20) if disk.get(b"k%d" % n)]
        assert min(there) >= position - 2
        disk.clear()
        disk.close()


@pytest.mark.parametrize("size", [10, 3000, 30_000])
def test_the_oldest_copies_go_when_there_is_no_room(tmp_path, size):
    disk, room = DiskCache(tmp_path / "d", 100_000), 100_000
    for number in range(300_000 // size if size > 10 else 6000):
        disk.keep(b"%d" % number, copy(bytes(size)))
        disk.keep(b"popular", copy(b"p"))
        assert disk.size() <= room + room // 32 + 2 * size
    assert disk.get(b"0") is None
    assert values(disk, b"%d" % number, b"popular") == [bytes(size), b"p"]
    disk.close()


def faulty(monkeypatch):
    """Return a folder that can fail, and copies in it."""
    directory = FaultyDirectory(KeptDirectory())
    real = Store.in_memory
    monkeypatch.setattr(
        Store, "in_memory", lambda **options: Store._in_directory(directory, **options)
    )
    disk = DiskCache(None, 1 << 20)
    monkeypatch.setattr(Store, "in_memory", real)
    return directory, disk


@pytest.mark.parametrize("operation", ["keep", "drop", "reach", "clear", "close"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_not_used_any_more(monkeypatch, caplog, operation, code):
    directory, disk = faulty(monkeypatch)
    disk.reach(5, 1)
    disk.keep(b"k", copy(b"v"))
    directory.fail(len(directory.steps) + 1, code, forever=True)
    calls = {
        "keep": lambda: disk.keep(b"j", copy(b"w")),
        "drop": lambda: disk.drop(b"k"),
        "reach": lambda: disk.reach(9, 2),
        "clear": disk.clear,
        "close": disk.close,
    }
    calls[operation]()
    if operation != "close":
        assert values(disk, b"k", b"j") == [None, None]
        disk.keep(b"j", copy(b"w"))
        disk.drop(b"j")
    disk.close()
    assert 1 <= len(caplog.records) <= 2


def test_what_failed_to_be_dropped_is_before_the_position_at_the_next_start(monkeypatch):
    directory, disk = faulty(monkeypatch)
    disk.reach(5, 1)
    disk.keep(b"k", copy(b"old"))
    directory.fail(len(directory.steps) + 1, errno.EIO)
    disk.drop(b"k")
    disk.reach(5000, 1)  # the disk could take it now
    disk.close()
    store = Store._in_directory(directory, groups=(b"k", 1))
    assert store.get(b"kk") is not None
    assert int.from_bytes(store.get(b"p")[:8], "little") == 5
    store.close()


def test_an_edge_with_a_failing_disk_answers(monkeypatch, tmp_path):
    directory, disk = faulty(monkeypatch)
    monkeypatch.setattr("kvengine.database.edge.DiskCache", lambda path, room: disk)
    with Database.in_memory() as db, Edge(db, path=tmp_path / "unused") as edge:
        kv = edge.namespace("n")
        kv.put("k", "1")
        assert kv.get("k") == "1"
        directory.fail(len(directory.steps) + 1, errno.ENOSPC, forever=True)
        for number in range(20):
            kv.put("k", str(number))
            assert kv.get("k") == str(number)
            kv.put(f"new{number}", "v")
            assert kv.get(f"new{number}") == "v"


def damaged(folder, number):
    """Damage the folder's files at one place in so many; return how many bytes there are."""
    changed = 0
    for file in sorted(folder.iterdir()):
        data = bytearray(file.read_bytes())
        for at in range(number * 97 % 1009, len(data), 1009):
            data[at] ^= 0x55
            changed += 1
        file.write_bytes(data)
    return changed


@pytest.mark.parametrize("number", range(12))
def test_damage_gives_no_wrong_answer_and_stops_no_edge(tmp_path, number):
    with Database.in_memory() as db:
        expected = {f"k{one}": f"value {one} " * 20 for one in range(100)}
        db.namespace("n").put_many(expected)
        with Edge(db, path=tmp_path / "d") as edge:
            edge.namespace("n").get_many(list(expected))
        assert damaged(tmp_path / "d", number) > 0
        with Edge(db, path=tmp_path / "d") as edge:
            kv = edge.namespace("n")
            assert kv.get_many(list(expected)) == expected
            kv.put("k1", "new")
            assert kv.get("k1") == "new"


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    with Store(tmp_path / "s") as store:
        store.put(b"mine", b"v")
    for _ in range(2):
        with pytest.raises(NotAStore, match="does not hold an edge's copies"):
            DiskCache(tmp_path / "s", 1 << 20)
    with Store(tmp_path / "s") as store:
        assert store.get(b"mine") == b"v"
        assert len(store) == 1


def test_an_edge_that_restarts_while_its_upstream_is_away(time, clock):
    disk = DiskCache(None, 1 << 20)
    disk.reach(10, 3)
    disk.keep(b"k", copy(b"v", 5, 10))
    bench = Bench(time, clock, disk=disk, begin=False)
    for _ in range(2):  # its age is not known, and neither is what was shown since
        (error,) = bench.read(stale_if_error=1e9)
        assert isinstance(error, UpstreamUnavailable)
        assert "has not reached the primary since it was opened" in str(error)
    bench.edge.begin(12)
    results = bench.read(stale_if_error=1e9)
    bench.upstream.fail(UpstreamUnavailable("cut"))
    assert isinstance(results[0], UpstreamUnavailable)
    bench.apply_changes(10, 12, ChangeEvent(12, b"other", True))
    (shown,) = bench.read()
    assert (shown.value, shown.status, bench.counters.disk_hits) == (b"v", "HIT", 1)
    time.run_until(100.0)
    results = bench.read(stale_if_error=200.0)
    bench.upstream.fail(UpstreamUnavailable("cut"))
    assert (results[0].value, results[0].status) == (b"v", "STALE")
    disk.close()
