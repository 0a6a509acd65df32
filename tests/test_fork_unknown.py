"""A fork by a program in C that does not tell Python, as uWSGI forks its workers."""

import subprocess
import sys
from pathlib import Path

import kvengine
from tests.forking import fork_in_c, in_child
from tests.server.processes import serving
from tests.server.running import TOKEN

ROOT = Path(__file__).parents[1]


def test_a_store_opens_again_at_its_first_write(tmp_path):
    def child():
        seen = store.get(b"parent")
        version = store.put(b"child", b"1")
        store.compact()  # with a thread of its own
        store.close()
        return seen, version

    with kvengine.Store(tmp_path / "store") as store:
        store.put(b"parent", b"1")
        assert in_child(child, fork_in_c) == (b"1", 2)
        assert store.get(b"child") == b"1"
        assert store.put(b"parent", b"2") == 3
        with kvengine.Store(tmp_path / "store") as other:
            assert other.put(b"other", b"1") == 4
        assert store.get(b"other") == b"1"
    with kvengine.Store(tmp_path / "store", exclusive=True) as store:  # nobody has it any more
        assert store.version == 4


def test_a_child_that_only_reads_leaves_the_store_to_its_parent(tmp_path):
    def child():
        seen = store.get(b"key")
        store.close()
        return seen

    with kvengine.Store(tmp_path / "store") as store:
        store.put(b"key", b"1")
        assert in_child(child, fork_in_c) == b"1"
        assert store.put(b"key", b"2") == 2
        with kvengine.Store(tmp_path / "store") as other:  # the lock is shared still
            assert other.get(b"key") == b"2"
    assert kvengine.verify(tmp_path / "store").ok


def test_a_database_and_its_namespaces(tmp_path):
    with kvengine.open(tmp_path / "db") as db:
        kv = db.namespace("counters")
        kv.increment("visits")
        assert in_child(lambda: kv.increment("visits"), fork_in_c) == 2
        assert kv.increment("visits") == 3


# In an interpreter of its own: a child of a process whose other threads wait for the interpreter at
# that moment may hang in Python itself, which was not told of the fork.
CLIENT = """
import os, signal, sys
import kvengine
from tests.forking import PATIENCE_S, fork_in_c

def all_are_right():
    return all(kv.get(f"k{n}") == f"secret {n}" for n in range(60))

with kvengine.connect(sys.argv[1], token=sys.argv[2]) as db:
    kv = db.namespace("n")
    kv.put_many({f"k{n}": f"secret {n}" for n in range(60)})
    pids = []
    for _ in range(3):
        pids.append(fork_in_c())
        if pids[-1] == 0:
            signal.alarm(PATIENCE_S)
            os._exit(0 if all_are_right() else 2)
    assert all_are_right()
    print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


def test_each_process_has_connections_of_its_own(tmp_path):
    with serving(tmp_path) as server:
        server.wait_until_ready()
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, server.url, TOKEN],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.stdout, done.stderr) == ("[0, 0, 0]\n", "")
