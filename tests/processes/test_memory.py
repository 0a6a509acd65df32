"""Processes that share a store share the memory of what nobody has changed: PSS counts it once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import Store

ROOT = Path(__file__).parent.parent.parent
KEYS = 10_000_000 if os.environ.get("KVENGINE_LONG") == "1" else 1_000_000

# Reads every key, writes a little, and waits.
WORKER = """
import sys, kvengine
store = kvengine.Store(sys.argv[1], durability="os")
keys = int(sys.argv[2])
for start in range(0, keys, 1000):
    found = store.get_many([b"key %08d" % n for n in range(start, start + 1000)])
    assert None not in found
for n in range(100):
    store.put(b"key %08d" % n, b"changed")
print("read", flush=True)
sys.stdin.readline()
"""


def pss_bytes(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def measure(path, count):
    """Return the bytes that so many workers take together once each has read all keys."""
    command = [sys.executable, "-c", WORKER, str(path), str(KEYS)]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        for worker in workers:
            assert worker.stdout.readline() == b"read\n"
        return sum(pss_bytes(worker.pid) for worker in workers)
    finally:
        for worker in workers:
            worker.communicate(b"\n")
            assert worker.returncode == 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no smaps_rollup here")
def test_four_workers_take_at_most_twice_the_memory_of_one(tmp_path, record_property):
    with Store(tmp_path, durability="os") as store:
        for start in range(0, KEYS, 1000):
            with store.batch() as batch:
                for number in range(start, start + 1000):
                    batch.put(b"key %08d" % number, b"value of a hundred bytes " * 4)
        store.checkpoint()
    one, four = measure(tmp_path, 1), measure(tmp_path, 4)
    record_property("bytes", (one, four))
    print(f"one {one / 2**20:.0f} MiB, four {four / 2**20:.0f} MiB, {four / one:.2f} x")
    assert four <= 2 * one
