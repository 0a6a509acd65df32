"""After a clean close the next open has next to nothing to do, whatever was done before."""

from pathlib import Path

import pytest

from kvengine import Store, StoreClosed
from kvengine.engine import maintenance, recovery
from kvengine.engine.replay import Replay
from kvengine.engine.saved_index import SavedIndex

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
    monkeypatch.setattr("kvengine.engine.opening.SavedIndex", CountingIndex)
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
        with store.jobs:
            store.maintenance.wake()
            maintenance.compact_in_background(store)
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
    """A map of 256 MiB a segment; who keeps a closed store must not keep them (finding E25)."""
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
    assert mapped_bytes(path) > 256 << 20
    store.close()
    store.close()
    assert mapped_bytes(path) <= (256 << 20) + (1 << 16)  # of the view, and the control page
    assert bytes(view) == b"value7" * 100
    del view
    assert mapped_bytes(path) <= 1 << 16
    with pytest.raises(StoreClosed):
        store.get(b"key7")
    assert "closed" in repr(store)
