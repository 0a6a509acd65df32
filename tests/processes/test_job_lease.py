"""Jobs are done by one process at a time, and by another when that one hangs or dies."""

import os
import signal
import time
from itertools import pairwise

import pytest

from kvengine import Store
from kvengine.testing.check import check_store
from tests.processes.running import running
from tests.waiting import until

OPTIONS = {"durability": "os", "segment_bytes": 16384, "compaction": "manual"}

# Has the jobs, and is about to replace the manifest, but waits for a line first.
HOLDER = """
import sys, kvengine
from tests.processes.test_job_lease import OPTIONS
store = kvengine.Store(sys.argv[1], **OPTIONS)
done, replace = [], store._parts.directory.replace

def slow(*arguments, **options):
    if not done:
        done.append("slow")
        print("in the job", flush=True)
        sys.stdin.readline()
    return replace(*arguments, **options)

store._parts.directory.replace = slow
store._parts.maintenance.run(lambda: store._parts.replace_manifest(lambda: done.append("finished")))
print(*done, store.compact() >= 0, flush=True)
store.close()
"""


def fill(store):
    for version in range(3000):
        store.put(b"key %02d" % (version % 50), bytes(50))
    return store.stats().log_bytes


@pytest.fixture
def holder(tmp_path):
    """Return a process that has the jobs of a store, and hangs."""
    with running(HOLDER, tmp_path / "store", "in the job") as process:
        yield process


def go_on(holder):
    holder.stdin.write("go on\n")
    holder.stdin.flush()
    os.kill(holder.pid, signal.SIGCONT)


def test_a_process_that_is_slow_in_a_job_keeps_it(tmp_path, holder):
    with Store(tmp_path / "store", **OPTIONS) as store:
        seen_ms = [0]

        def is_at_work():
            seen_ms.append(store._parts.jobs_seen_ms())
            return sum(after < before for before, after in pairwise(seen_ms)) > 2

        until(is_at_work, "it is seen again and again")
        go_on(holder)
        assert holder.stdout.readline() == "slow finished True\n"


def test_a_process_that_is_stopped_in_a_job_does_not_finish_what_another_did(tmp_path, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    with Store(tmp_path / "store", **OPTIONS) as store:
        before = fill(store)
        store.compact()  # waits until nobody has heard of the other one for two seconds
        assert store.stats().log_bytes < before / 10
        generation = store._parts.manifest.generation
        go_on(holder)
        assert holder.stdout.readline() == "slow finished True\n"  # it was told, and began again
        assert holder.wait() == 0
        assert store._parts.control_page.generation > generation
        fill(store)
        store.compact()
        check_store(store)
    with Store(tmp_path / "store", rebuild=True, **OPTIONS) as store:
        assert len(store) == 50
        check_store(store)


def test_a_manifest_of_another_process_is_not_taken_for_the_own(tmp_path, holder):
    """Both follow the same one, so they have the same generation."""
    os.kill(holder.pid, signal.SIGSTOP)
    with Store(tmp_path / "store", **OPTIONS) as store:
        store.put(b"a", b"1")
        before = store._parts.manifest.generation
        store._parts.maintenance.run(store._parts.replace_manifest)
        assert store._parts.manifest.generation == before + 1
        go_on(holder)
        assert holder.stdout.readline() == "slow finished True\n"
        assert holder.wait() == 0
        check_store(store)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_jobs_of_a_process_that_is_killed_or_stopped_are_done(tmp_path, holder, number):
    os.kill(holder.pid, number)
    with Store(tmp_path / "store", **OPTIONS) as store:
        before = fill(store)
        store.compact()
        assert store.stats().log_bytes < before / 10
        check_store(store)


# Has compaction to do all the time, one after the other.
BUSY = """
import sys, time, kvengine
from kvengine.engine.jobs import compactor
from tests.processes.test_job_lease import OPTIONS
compactor.plan_next = lambda store: "more"
compactor.compact = lambda store, plan: time.sleep(0.02)
store = kvengine.Store(sys.argv[1], **{**OPTIONS, "compaction": "auto"})
store._parts.maintenance.wake()
while store._parts.maintenance.lease.token == 0:
    time.sleep(0.001)
print("at work", flush=True)
time.sleep(3600)
"""


def test_who_waits_for_the_jobs_gets_its_turn_from_one_that_always_has_more_to_do(tmp_path):
    with running(BUSY, tmp_path / "store", "at work") as busy:
        with Store(tmp_path / "store", **OPTIONS) as store:
            fill(store)
            assert store.compact() > 0  # the timeout of the test tells if it never gets there
        assert busy.poll() is None


# Ends its lease whenever it is one millisecond old, which is when another takes it.
ENDING = """
import sys, kvengine
store = kvengine.Store(sys.argv[1])
print("open", flush=True)
while True:
    if store._parts.claim_jobs(store._parts.token, 60_000):
        while store._parts.jobs_seen_ms() == 0:
            pass
        store._parts.end_jobs(store._parts.token)
"""


def test_who_ends_its_lease_does_not_end_that_of_another(tmp_path):
    path = tmp_path / "store"
    with running(ENDING, path, "open"), Store(path, **OPTIONS) as store:
        token = store._parts.token
        for _ in range(2000):
            time.sleep(0.0001)
            while not store._parts.claim_jobs(token, 0):
                pass
            assert all(store._parts.still_has_jobs(token) for _ in range(100))
            store._parts.end_jobs(token)
