"""How a reader follows: with little work, from the right place, without keeping files in use.

It reads what is new and no more; it starts over only if it must; and where the control page and
the log disagree (a kill, a power cut, a store in the making) it knows which one to believe.
"""

import fcntl
import gc
import os
import struct
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from kvengine import Store
from kvengine.engine import follower, recovery
from kvengine.engine.replay import Replay

SMALL = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}
PATIENCE_S = 60


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


class Counting(Replay):
    """Counts the changes that are replayed."""

    changes = 0

    def run(self, until=0):
        before = self.version
        super().run(until)
        Counting.changes += self.version - before


@pytest.mark.parametrize("writing", [False, True], ids=["closed", "beside a writer"])
def test_a_reader_does_not_replay_the_whole_log(path, monkeypatch, writing):
    store = Store(path, durability="os", compaction="manual")
    store.update({b"%05d" % n: b"" for n in range(30_000)})
    store.checkpoint()
    for number in range(10):
        store[b"more %d" % number] = b""
    if not writing:
        store.close()
    monkeypatch.setattr(recovery, "Replay", Counting)
    monkeypatch.setattr(Counting, "changes", 0)
    with Store(path, read_only=True) as reader:
        assert len(reader) == 30_010
        assert Counting.changes == 10
    store.close()


@pytest.fixture
def reloads(monkeypatch):
    """Count how often a reader starts over."""
    counts = Counter()
    original = follower.Follower.start_over
    monkeypatch.setattr(
        follower.Follower,
        "start_over",
        lambda self: (counts.update(["all"]), original(self))[1],
    )
    return counts


def write_page(path, word, change):
    """Change one number of the control page."""
    data = bytearray((path / "CONTROL").read_bytes())
    (value,) = struct.unpack_from("<Q", data, 8 * word)
    struct.pack_into("<Q", data, 8 * word, change(value))
    (path / "CONTROL").write_bytes(data)


def test_following_does_not_start_over(path, reloads):
    with Store(path, **SMALL, compaction="manual") as store:
        store[b"key"] = b"0"
        with Store(path, read_only=True) as reader:
            for number in range(2000):
                store[b"key"] = b"%d" % number * 10
                assert reader[b"key"] == b"%d" % number * 10
            store.checkpoint()
            assert reader.version == store.version
    assert reloads["all"] == 0


def test_a_change_that_was_never_visible_is_not_looked_for_again_and_again(path, reloads):
    """The writer was killed between writing a change and letting others see it."""
    with Store(path, **SMALL) as store:
        store.update({b"%d" % n: b"" for n in range(100)})
        store[b"last"] = b""
    write_page(path, 3, lambda version: version - 1)
    with Store(path, read_only=True) as reader:
        for number in range(100):
            assert reader[b"%d" % number] == b""
        assert reloads["all"] == 0
        with Store(path, **SMALL) as store:
            assert store.version == reader.version == 101
            assert b"last" in reader


def test_after_a_power_cut_a_reader_believes_the_log_and_not_the_page(path, reloads):
    """The page was written back by the kernel, the end of the log was not."""
    with Store(path, **SMALL) as store:
        store.update({b"%d" % n: b"" for n in range(100)})
    write_page(path, 1, lambda boot: boot ^ 1)
    write_page(path, 3, lambda version: version + 7)
    with Store(path, read_only=True) as reader:
        assert reader.version == 100
        assert len(reader) == 100
        with Store(path, **SMALL) as store:
            store[b"after"] = b"all"
            assert reader[b"after"] == b"all"
            assert reader.version == 101
    assert reloads["all"] == 0


def test_a_reader_gives_back_what_compaction_removed(path):
    with Store(path, **SMALL) as store, Store(path, read_only=True) as reader:
        for turn in range(30):
            store.update({b"%03d" % n: b"%d" % turn * 50 for n in range(200)})
            assert reader[b"199"] == b"%d" % turn * 50
        store.compact()
        store[b"more"] = b""
        assert reader.version == store.version

        def removed():
            held = Path("/proc/self/maps").read_text().splitlines()
            return [line for line in held if str(path) in line and ".log (deleted)" in line]

        for _ in range(20 * PATIENCE_S):  # a job may have removed some right after it looked
            if not removed():
                break
            assert reader[b"more"] == b""
            gc.collect()
            time.sleep(0.05)
        assert removed() == []
        assert len(reader) == 201


def test_a_reader_waits_for_a_store_that_is_being_made(path):
    """Between the manifest and the control page it could not know whom to follow."""
    Store(path).close()
    (path / "CONTROL").unlink()
    held = os.open(path / "LOCK", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    seen: list[Store] = []
    opening = threading.Thread(target=lambda: seen.append(Store(path, read_only=True)))
    opening.start()
    opening.join(0.2)
    assert seen == []
    os.close(held)
    with Store(path) as store:
        opening.join(PATIENCE_S)
        store[b"key"] = b"value"
        assert seen[0][b"key"] == b"value"
        seen[0].close()


def test_a_page_that_is_behind_the_manifest_holds_up_no_reader(tmp_path):
    """A replica was killed after it had put a newer state in place, and before its page said so."""
    with Store(tmp_path, durability="os") as store:
        for number in range(20):
            store.put(b"%d" % number, b"value")
        store.checkpoint()
    with (tmp_path / "CONTROL").open("r+b") as page:
        page.seek(24)  # the version
        page.write((5).to_bytes(8, "little"))
    with Store(tmp_path, read_only=True) as reader:
        assert reader.version == 20
        assert reader[b"19"] == b"value"
