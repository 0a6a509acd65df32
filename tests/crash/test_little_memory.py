"""Recovery with too little memory ends with an error of ours or MemoryError; nothing is harmed."""

import subprocess
import sys
from pathlib import Path

import kvengine

ROOT = Path(__file__).parent.parent.parent

# Opens the store with more and more address space, until that is enough; says how often it was not.
OPENER = """
import resource, sys, kvengine, faulthandler
faulthandler.dump_traceback_later(12, exit=True)
def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
refused, rebuild = 0, sys.argv[2] == "rebuild"
for step in range(400):
    limit = used() + (4 << 20) + step * (8 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        store = kvengine.Store(sys.argv[1], compaction="manual", rebuild=rebuild)
    except (MemoryError, kvengine.KvError):
        refused += 1
        continue
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    break
with store:
    found = sum(1 for _ in store.scan())
print(refused, found)
"""


def test_recovery_with_too_little_memory_harms_nothing(tmp_path):
    path = tmp_path / "store"
    with kvengine.Store(path, durability="os", segment_bytes=1 << 20) as store:
        for number in range(3000):
            store.put(b"key %d" % number, b"v" * 700)
        store.checkpoint()
        for number in range(2000):
            store.put(b"more %d" % number, b"w" * 100)
    for mode in ("as it is", "rebuild"):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", OPENER, str(path), mode],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        refused, found = map(int, done.stdout.split())
        assert refused > 3
        assert found == 5000
    with kvengine.Store(path) as store:
        assert store.verify().ok
        assert len(store) == 5000
