"""A follower's process is killed with SIGKILL at any moment, again and again, and goes on.

The source lives in a process of its own, which writes all the time; the follower reads it beside
that process. Set KVENGINE_LONG=1 for many more generations.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvengine import Follower, Store
from kvengine.replication.frozen import Snapshot
from kvengine.testing.check import check_store

GENERATIONS = 100 if os.environ.get("KVENGINE_LONG") == "1" else 10
ROOT = Path(__file__).parent.parent.parent
SMALL = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}

# Each batch gives the first three keys the same value.
WRITER = """
import random, sys, kvengine
source = random.Random(int(sys.argv[2]))
options = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}
with kvengine.Store(sys.argv[1], **options) as store:
    print("begun", flush=True)
    while True:
        with store.batch() as batch:
            for key in range(3):
                batch.put(b"same %d" % key, b"%d" % store.version)
            for _ in range(source.choice([0, 1, 1, 40])):
                key = b"key %03d" % source.randrange(300)
                if source.random() < 0.3:
                    batch.delete(key)
                else:
                    batch.put(key, b"%d" % store.version)
        if source.random() < 0.002:
            store.compact()
"""

FOLLOWER = """
import sys, time, kvengine
from kvengine.replication import applier
applier.STAGE_BYTES = int(sys.argv[3])
options = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}
source = kvengine.Store(sys.argv[1], read_only=True)
prefixes = [b"same", b"key 1"] if sys.argv[4] == "some" else None
follower = kvengine.Follower(source, sys.argv[2], prefixes=prefixes, **options)
while True:
    if follower.wait(follower.position + 1, timeout=10):
        print(follower.position, flush=True)
        if follower.position % 50 == 0:
            follower.store.compact()
    elif follower.error is not None:
        raise follower.error
"""


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)


@pytest.mark.parametrize("keys", ["all", "some"])
def test_it_goes_on_after_each_kill(tmp_path, keys):
    dice = random.Random(keys)
    path, target, position = tmp_path / "source", tmp_path / "replica", 0
    prefixes = [b"same", b"key 1"] if keys == "some" else None
    with start(WRITER, path, 1) as writer:
        try:
            assert writer.stdout.readline() == b"begun\n"
            for _ in range(GENERATIONS):
                stage_bytes = dice.choice([500, 5000, 1 << 20])
                with start(FOLLOWER, path, target, stage_bytes, keys) as child:
                    for _ in range(dice.randrange(1, 30)):
                        line = child.stdout.readline()
                        assert line, "the follower ended"
                        assert int(line) >= position
                        position = int(line) if keys == "all" else 0
                    time.sleep(dice.random() * 0.02)
                    child.send_signal(signal.SIGKILL)
                    assert child.wait() == -signal.SIGKILL
                with Store(target, read_only=True) as replica:
                    assert replica.version >= position
                    assert len(set(replica.get_many([b"same 0", b"same 1", b"same 2"]))) == 1
        finally:
            writer.kill()
    options = {"prefixes": prefixes, "background": False, **SMALL}
    with Store(path, **SMALL) as source, Follower(source, target, **options) as follower:
        with Snapshot(source) as view:
            assert follower.differences(view) == []
        starts = tuple(prefixes or [b""])
        wanted = [entry for entry in source.scan() if entry.key.startswith(starts)]
        assert list(follower.store.scan()) == wanted
        check_store(follower.store)
