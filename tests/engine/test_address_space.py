"""What a store takes of the address space, which `ulimit -v` and containers may limit.

A segment takes what it is long; only those that are written to take room to grow.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import StorageError, Store

MIB = 1 << 20
GROWING = 200 * MIB  # of a segment that the log may go on in
SMALL = {"segment_bytes": 1 << 14, "durability": "os", "compaction": "manual"}


def mapped(path: Path) -> dict[str, int]:
    """Return how much address space this process has for each segment file of a folder."""
    found: dict[str, int] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        name = line.split()[5] if len(line.split()) > 5 else ""
        if name.startswith(str(path)) and name.endswith(".log"):
            start, end = line.split()[0].split("-")
            found[name] = found.get(name, 0) + int(end, 16) - int(start, 16)
    return found


def fill(store: Store, keys: int, rounds: int = 1) -> None:
    for number in range(keys * rounds):
        store.put(b"key%d" % (number % keys), b"%d" % number * 100)


def test_a_closed_segment_takes_what_it_is_long(tmp_path):
    with Store(tmp_path, **SMALL) as store:
        fill(store, 2000)
        store.checkpoint()
        sizes = mapped(tmp_path)
        closed = [size for size in sizes.values() if size < GROWING]
        assert len(sizes) - len(closed) <= 2  # where the log ends, and where it will go on
        assert len(closed) > 30
        assert max(closed) < 1 << 16
        assert store[b"key0"] == b"0" * 100
        with Store(tmp_path, read_only=True) as reader:
            assert reader[b"key1999"] == b"1999" * 100
            assert sum(mapped(tmp_path).values()) < 4 * GROWING
        store.compact()
        assert sum(mapped(tmp_path).values()) < 3 * GROWING
        assert store.verify().ok
        fill(store, 2000, rounds=2)
        assert len(store) == 2000
    assert mapped(tmp_path) == {}


def test_an_open_store_takes_the_same(tmp_path):
    with Store(tmp_path, **SMALL) as store:
        fill(store, 2000)
    with Store(tmp_path, **SMALL) as store:
        assert sum(mapped(tmp_path).values()) < 2 * GROWING + 10 * MIB
        assert store[b"key7"] == b"7" * 100
        fill(store, 500)
        assert store[b"key7"] == b"7" * 100


def test_a_reader_that_follows_through_many_segments(tmp_path):
    with Store(tmp_path, **SMALL) as store, Store(tmp_path, read_only=True) as reader:
        for number in range(3000):
            store.put(b"key%d" % number, b"%d" % number * 100)
            if number % 10 == 0:
                assert reader[b"key%d" % number] == b"%d" % number * 100
        assert store.stats().segments > 50
        assert sum(mapped(tmp_path).values()) < 6 * GROWING + 10 * MIB  # of both
        assert reader[b"key0"] == b"0" * 100


def test_views_of_a_closed_segment_are_valid(tmp_path):
    """Its mapping was cut to its length, not made anew."""
    with Store(tmp_path, **SMALL) as store:
        store.put(b"a", b"x" * 10_000)
        view = store.get_view(b"a")
        fill(store, 1000)
        store.checkpoint()
        store.compact()
    assert bytes(view) == b"x" * 10_000


def test_the_largest_batch_goes_into_the_fullest_segment(tmp_path):
    """A segment is almost full, and what comes then is as much as a batch may be."""
    with Store(tmp_path, durability="os", compaction="manual") as store:
        for number in range(63):
            store.put(b"a%d" % number, bytes(MIB))
        with store.batch() as batch:
            for number in range(127):
                batch.put(b"b%d" % number, bytes(MIB))
            batch.put(b"c", bytes(MIB - 64 * 129 - 5 * 128))
        assert store.stats().segments == 1
        assert len(store) == 63 + 127 + 1


PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from kvengine import Store
path, options = sys.argv[1], {"segment_bytes": 1 << 14, "durability": "os"}
with Store(path, compaction="manual", **options) as store:
    for number in range(12_000):
        store.put(b"key%d" % (number % 6000), b"%d" % number * 50)
    assert store.stats().segments > 150
    store.checkpoint()
    with Store(path, read_only=True) as reader:
        assert len(reader) == 6000
    assert store.verify().ok
    store.compact()
    assert len(store) == 6000
with Store(path, compaction="auto", **options) as store:
    for number in range(12_000):
        store.put(b"key%d" % (number % 6000), b"%d" % number * 50)
with Store(path, read_only=True) as reader:
    assert reader[b"key17"] == b"6017" * 50
print("done")
"""


def test_hundreds_of_segments_in_four_gigabytes(tmp_path):
    """With 256 MiB for each segment the fifteenth was the last."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.stdout == "done\n", ended.stderr


def test_no_address_space_is_a_clear_error(tmp_path):
    """The store that could not be opened leaves nothing mapped, and the next one opens."""
    with Store(tmp_path, **SMALL) as store:
        fill(store, 100)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 100 * MIB, before[1]))
    try:
        with pytest.raises((StorageError, MemoryError)) as caught:
            Store(tmp_path, **SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert isinstance(caught.value, MemoryError) or "ulimit -v" in str(caught.value)
    assert mapped(tmp_path) == {}
    with Store(tmp_path, **SMALL) as store:
        assert len(store) == 100
