"""A writer process is killed with SIGKILL at random moments, again and again on the same store.

Set KVENGINE_LONG=1 for many more generations.
"""

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvengine
from kvengine.testing.crashing import KeptDirectory
from kvengine.testing.history import content_of

LONG = os.environ.get("KVENGINE_LONG") == "1"
GENERATIONS = 60 if LONG else 6
ROOT = Path(__file__).parent.parent.parent

# Writes until it is killed; each line on stdout is a version that was acknowledged.  What version
# `v` wrote follows from `v` alone, so the test can tell any prefix.
WRITER = """
import sys, random, kvengine
path, durability, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
source = random.Random(seed)
out = sys.stdout.buffer
with kvengine.Store(path, durability=durability, segment_bytes=16384, key_buffer_entries=64,
                    checkpoint_records=300) as store:
    out.write(b"open %d\\n" % store.version); out.flush()
    while True:
        first = store.version + 1
        count = source.choice([1, 1, 1, 2, 7])
        with store.batch() as batch:
            for version in range(first, first + count):
                batch.put(b"key %03d" % (version * 7919 % 211), b"%d:%d " % (first, version) * 9)
        out.write(b"%d\\n" % store.version); out.flush()
        if source.random() < 0.01:
            store.compact()
"""


def run_and_kill(path: str, durability: str, seed: int, lines: int) -> list[int]:
    """Let a writer acknowledge some batches, kill it, and return all acknowledged versions."""
    command = [sys.executable, "-c", WRITER, path, durability, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"open ")
        seen = [int(child.stdout.readline()) for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        assert child.wait() == -signal.SIGKILL
    whole = rest.split(b"\n")[:-1]  # the last piece may be half a line
    return seen + [int(line) for line in whole]


@pytest.mark.parametrize("durability", ["os", "group"])
def test_all_acknowledged_writes_survive(tmp_path, durability):
    path = str(tmp_path / "store")
    source = random.Random(durability)
    acknowledged = 0
    for generation in range(GENERATIONS):
        seed = source.randrange(1 << 30)
        lines = source.randrange(1, 400 if durability == "os" else 60)
        versions = run_and_kill(path, durability, seed, lines)
        assert versions == sorted(versions)
        acknowledged = versions[-1]
        found = []
        for _ in range(2):
            with kvengine.Store(path, durability="os") as store:
                assert store.version >= acknowledged, f"generation {generation}"
                found.append((store.version, content_of(store)))
                assert store.verify().ok
        assert found[0] == found[1]
        check_content(*found[0])
    assert acknowledged > GENERATIONS


def check_content(version: int, content: dict[bytes, tuple[bytes, int]]) -> None:
    """Each value names its batch and its version, so the newest of each key are told apart."""
    newest: dict[bytes, int] = {}
    for known in range(max(version - 600, 1), version + 1):
        newest[b"key %03d" % (known * 7919 % 211)] = known
    assert max((found for _, found in content.values()), default=0) == version
    for key, known in newest.items():
        value, found = content[key]
        assert found == known
        first = int(value.split(b":")[0])
        assert value == b"%d:%d " % (first, known) * 9
        assert 0 <= known - first < 7


def test_a_killed_writer_leaves_no_lock(tmp_path):
    path = str(tmp_path / "store")
    run_and_kill(path, "os", 1, 5)
    with kvengine.Store(path) as store:
        assert store.version >= 5


def test_a_stopped_writer_still_holds_the_lock(tmp_path):
    """SIGSTOP is no death: nobody else may have the store alone."""
    path = str(tmp_path / "store")
    command = [sys.executable, "-c", WRITER, path, "os", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"open ")
        child.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(kvengine.StoreLocked) as refusal:
                kvengine.Store(path, exclusive=True)
            assert refusal.value.pid == child.pid
        finally:
            child.kill()
        while select.select([child.stdout], [], [], 5)[0] and os.read(child.stdout.fileno(), 65536):
            pass
    with kvengine.Store(path):
        pass


@pytest.mark.parametrize("left", [16, 32, 48])
def test_space_allocated_ahead_may_end_in_the_middle_of_a_header(left):
    folder = KeptDirectory()
    options = {"durability": "os", "compaction": "manual", "segment_bytes": 16_000}
    store = kvengine.Store._in_directory(folder, **options)
    count = 0
    while True:
        segment_id = store._parts.rows[-1].id if store._parts.rows else 0
        end = store._parts.segment_table.counters(segment_id)[1] if segment_id else 0
        free = folder.size(f"{segment_id:08x}.log") - end if segment_id else 0
        if free == left:
            break
        # A record of 24 bytes, a key of 8, and as much as leaves `left` bytes, or half of them.
        wanted = free - left if free < 3000 else 1024
        store.put(b"%08d" % count, bytes(max(wanted - 32, 0)))
        count += 1
    store.put(b"in the next segment", b"")
    assert len(store._parts.rows) == 2
    store._parts.refuse(kvengine.StoreClosed("killed"))
    with kvengine.Store._in_directory(folder, durability="os") as again:
        assert len(again) == count + 1
        again.put(b"goes on", b"")
        assert again.verify().ok
