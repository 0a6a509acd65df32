"""Jobs are done by one process at a time, and by another when that one hangs or dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import Store
from kvengine.testing.check import check_store

ROOT = Path(__file__).parent.parent.parent
OPTIONS = {"durability": "os", "segment_bytes": 16384, "compaction": "manual"}

# Has the jobs, and does nothing for them until it reads a line; then it compacts after all.
HOLDER = """
import sys, kvengine
from tests.processes.test_job_lease import OPTIONS
store = kvengine.Store(sys.argv[1], **OPTIONS)
turns = []

def hang():
    turns.append(1)
    if len(turns) == 1:
        print("in the job", flush=True)
        sys.stdin.readline()
        store.replace_manifest()  # its lease is another's by now
    return len(turns)

print(store.maintenance.run(hang), store.compact() >= 0, flush=True)
store.close()
"""


def fill(store):
    for version in range(3000):
        store.put(b"key %02d" % (version % 50), bytes(50))
    return store.stats().log_bytes


@pytest.fixture
def holder(tmp_path):
    """Return a process that has the jobs of a store, and hangs."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "store")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "in the job\n"
        yield child
        child.kill()


def test_a_process_that_hangs_in_a_job_does_not_finish_what_another_did(tmp_path, holder):
    with Store(tmp_path / "store", **OPTIONS) as store:
        before = fill(store)
        store.compact()  # waits until nobody has heard of the other one for two seconds
        assert store.stats().log_bytes < before / 10
        generation = store.manifest.generation
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "2 True\n"  # it was told, and began again
        assert holder.wait() == 0
        assert store.control_page.generation > generation
        fill(store)
        store.compact()
        check_store(store)
    with Store(tmp_path / "store", rebuild=True, **OPTIONS) as store:
        assert len(store) == 50
        check_store(store)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_jobs_of_a_process_that_is_killed_or_stopped_are_done(tmp_path, holder, number):
    os.kill(holder.pid, number)
    with Store(tmp_path / "store", **OPTIONS) as store:
        before = fill(store)
        store.compact()
        assert store.stats().log_bytes < before / 10
        check_store(store)
