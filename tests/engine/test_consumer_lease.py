"""Under a name one process at a time gets changes: each goes to one of them, and none is lost."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import pytest

from kvengine import ConsumerLocked, InvalidRequest, StorageError, Store
from kvengine.file import lease
from tests.forking import in_child
from tests.waiting import HANG_S, until

ROOT = Path(__file__).parents[2]
TOTAL = 4000

# Takes turns with the other one: after each batch it lets go, and waits until that has had one.
WORKER = f"""
import sys, time
from kvengine import Store
with Store(sys.argv[1], durability="os") as store:
    consumer = store.consumer("jobs")
    while consumer.position < {TOTAL}:
        for batch in consumer.batches(200, follow=True, timeout=1):
            consumer.acknowledge(batch[-1].version)
            print(*[change.version for change in batch], flush=True)
            consumer.release()
            while batch[-1].version == consumer.position < {TOTAL}:
                time.sleep(0.001)
"""

# Says what it got, then acknowledges it, then says that; and lets go now and then.
MORTAL = f"""
import random, sys
from kvengine import Store
with Store(sys.argv[1], durability="os") as store:
    consumer = store.consumer("jobs")
    while consumer.position < {TOTAL}:
        for batch in consumer.batches(20, follow=True, timeout=0.2):
            versions = " ".join(str(change.version) for change in batch)
            print("\\ngot", versions, "whole", flush=True)
            consumer.acknowledge(batch[-1].version)
            print("\\nacknowledged", versions, "whole", flush=True)
            if random.random() < 0.2:
                consumer.release()
"""

HOLDER = """
import os, sys, time
from kvengine import Store
store = Store(sys.argv[1], durability="os")
consumer = store.consumer("jobs")
for change in consumer.changes(follow=True):
    print(change.version, flush=True)
    if change.version == 4:
        consumer.acknowledge(4)
    if change.version == 5 and sys.argv[2] == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(3600)
        print(child, flush=True)
"""


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s", durability="os") as opened:
        opened.update({b"%d" % n: b"" for n in range(5)})
        yield opened


@pytest.fixture(params=["reader", "writer"])
def other(store, request):
    """Another process, but for where it runs."""
    with Store(store.path, durability="os", read_only=request.param == "reader") as opened:
        yield opened


@pytest.fixture
def hold(store):
    """Start a process that has got all five changes and acknowledged four."""
    processes = []

    def start(what="hold"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, store.path, what], stdout=subprocess.PIPE, cwd=ROOT
        )
        processes.append(process)
        assert [int(process.stdout.readline()) for _ in range(5)] == [1, 2, 3, 4, 5]
        until(lambda: store.consumer("jobs").position == 4, "it acknowledges")
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def versions(found):
    return [change.version for change in found]


class Following:
    """A thread that follows; what it has got so far."""

    def __init__(self, consumer, count):
        self.found = []
        self.thread = threading.Thread(target=self.run, args=(consumer, count), daemon=True)
        self.thread.start()

    def run(self, consumer, count):
        for change in islice(consumer.changes(follow=True, timeout=HANG_S), count):
            self.found.append(change.version)

    def all(self):
        self.thread.join(HANG_S)
        assert not self.thread.is_alive()
        return self.found


def test_two_processes_share_thousands_of_changes_none_twice_and_none_lost(tmp_path):
    with Store(tmp_path / "s", durability="os", segment_bytes=1 << 16) as store:
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, tmp_path / "s"],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for _ in range(2)
        ]
        for number in range(TOTAL):
            store.put(b"%d" % number, b"x" * 100)
        shares = [list(map(int, w.communicate(timeout=HANG_S)[0].split())) for w in workers]
        assert [worker.returncode for worker in workers] == [0, 0]
    assert sorted(shares[0] + shares[1]) == list(range(1, TOTAL + 1))
    assert all(share == sorted(share) and len(share) >= TOTAL // 4 for share in shares)


def test_when_one_is_killed_another_one_goes_on(store, hold):
    process = hold()
    consumer = store.consumer("jobs")
    assert list(consumer.changes()) == []  # they are given elsewhere
    assert list(consumer.changes(follow=True, timeout=0.1)) == []
    following = Following(consumer, 2)
    store.put(b"6", b"")
    assert process.stdout.readline() == b"6\n"
    assert following.found == []
    process.kill()
    assert following.all() == [5, 6]
    consumer.acknowledge(6)


def test_none_is_lost_and_what_was_acknowledged_comes_to_nobody_again_whoever_is_killed(tmp_path):
    def start():
        return subprocess.Popen(
            [sys.executable, "-c", MORTAL, tmp_path / "s"],
            stdout=log.fileno(),
            cwd=ROOT,
        )

    chance = random.Random(7)
    with (
        Store(tmp_path / "s", durability="os") as store,
        open(tmp_path / "log", "ab") as log,
    ):
        consumer, workers = store.consumer("jobs"), [start() for _ in range(3)]
        for number in range(TOTAL):
            store.put(b"%d" % number, b"x")
        for kill in range(8):  # each after some of the work
            until(lambda kill=kill: consumer.position >= TOTAL * kill // 8, "they go on")
            victim = chance.randrange(3)
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = start()
        assert [worker.wait(HANG_S) for worker in workers] == [0, 0, 0]
    got, acknowledged = set(), set()
    for line in (tmp_path / "log").read_text().splitlines():
        if not line.endswith("whole"):  # it was killed while it wrote this
            continue
        what, *numbers, _ = line.split()
        batch = set(map(int, numbers))
        if what == "got":
            assert not batch & acknowledged
            got |= batch
        else:
            acknowledged |= batch
    assert got == set(range(1, TOTAL + 1))


def test_one_that_is_stopped_keeps_its_lease(store, hold):
    process = hold()
    process.send_signal(signal.SIGSTOP)
    store.put(b"6", b"")
    consumer = store.consumer("jobs")
    assert list(consumer.changes(follow=True, timeout=0.1)) == []
    with pytest.raises(ConsumerLocked, match=f"process {process.pid}") as caught:
        consumer.restart()
    assert (caught.value.name, caught.value.pid) == ("jobs", process.pid)
    process.send_signal(signal.SIGCONT)
    assert process.stdout.readline() == b"6\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_keep_the_lease_of_its_parent(store, hold):
    process = hold("fork")
    child = int(process.stdout.readline())
    try:
        consumer = store.consumer("jobs")
        assert list(consumer.changes()) == []
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        assert versions(islice(consumer.changes(follow=True, timeout=HANG_S), 1)) == [5]
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("end", ["release", "close", "drop", "remove"])
def test_each_way_to_let_go(store, other, end):
    here, there = store.consumer("jobs"), other.consumer("jobs")
    assert len(list(there.changes())) == 5
    there.acknowledge(3)
    assert list(here.changes()) == []
    following = None if end == "remove" else Following(here, 2)
    if end == "release":
        there.release()
    elif end == "close":
        other.close()
    elif end == "drop":
        del there
        gc.collect()
    else:
        there.remove()
        with pytest.raises(InvalidRequest, match="was removed"):
            list(here.changes())
        assert not list(Path(store.path).glob("jobs.*"))
        following = Following(store.consumer("jobs"), 5)
    assert following.all() == ([1, 2, 3, 4, 5] if end == "remove" else [4, 5])


def test_what_was_given_before_letting_go_can_not_be_acknowledged_after_it(store, other):
    here, there = store.consumer("jobs"), other.consumer("jobs")
    given, batches = here.changes(), here.batches(2)
    assert next(given).version == 1
    assert versions(next(batches)) == [1, 2]
    here.acknowledge(1)
    here.release()
    here.release()
    assert list(given) == list(batches) == []  # so that none is given twice
    with pytest.raises(InvalidRequest, match="was not given to consumer 'jobs', only up to 1"):
        here.acknowledge(2)
    here.acknowledge(1)  # as ever, without effect
    assert versions(there.changes()) == [2, 3, 4, 5]
    there.acknowledge(4)
    there.release()
    assert versions(here.changes()) == [5]  # the position is read anew
    here.acknowledge(2)
    assert here.position == 4


def test_consumers_and_threads_of_one_store_share_a_lease(store, other):
    first, second, elsewhere = store.consumer("jobs"), store.consumer("jobs"), other
    assert len(list(first.changes())) == len(list(second.changes())) == 5
    following = [Following(first, 5), Following(second, 5)]
    assert [one.all() for one in following] == [[1, 2, 3, 4, 5]] * 2
    first.release()
    assert list(elsewhere.consumer("jobs").changes()) == []
    second.acknowledge(5)
    second.release()
    store.put(b"6", b"")
    assert versions(elsewhere.consumer("jobs").changes()) == [6]


def test_names_do_not_disturb_each_other(store, other):
    here, there = store.consumer("jobs"), other.consumer("others")
    assert len(list(here.changes())) == len(list(there.changes())) == 5


def test_who_lost_the_lease_does_not_move_the_position(store, other):
    here, there = store.consumer("jobs"), other.consumer("jobs")
    given = here.batches(3)
    assert versions(next(given)) == [1, 2, 3]
    here.acknowledge(1)
    (Path(store.path) / "jobs.lease").unlink()
    with pytest.raises(ConsumerLocked, match="another process"):
        here.acknowledge(3)
    assert there.position == 1
    there.restart()
    assert len(list(there.changes())) == 5
    for call in (lambda: here.acknowledge(3), lambda: next(given), lambda: here._note_read(5)):
        with pytest.raises(ConsumerLocked, match=f"process {os.getpid()}"):
            call()
    assert there.position == 0
    assert list(here.changes()) == []
    there.acknowledge(2)
    there.release()
    assert versions(here.changes()) == [3, 4, 5]


def test_who_may_not_write_to_the_folder_gets_nothing(store, other, monkeypatch):
    store.consumer("jobs")
    consumer = other.consumer("jobs")

    def refused(name, *rest, **options):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(lease, "Descriptor", refused)
    with pytest.raises(StorageError, match="take the lease"):
        list(consumer.changes())


def test_an_interrupted_wait_for_the_lease_leaves_nothing_behind(store, other):
    here, there = store.consumer("jobs"), other.consumer("jobs")
    list(there.changes())

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt):
            list(here.changes(follow=True))
    finally:
        signal.signal(signal.SIGUSR1, before)
    there.release()
    assert len(list(there.changes())) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_ends_leaves_the_lease_of_its_parent_alone(store, other):
    here, there = store.consumer("jobs"), other.consumer("jobs")
    given = there.changes()
    assert next(given).version == 1
    assert in_child(lambda: [len(list(given)), len(list(there.changes()))]) == [0, 0]
    assert list(here.changes()) == []
    assert versions(given) == [2, 3, 4, 5]
    there.acknowledge(5)
