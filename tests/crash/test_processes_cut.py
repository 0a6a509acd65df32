"""Power is cut while several processes write to one store, some of which are killed before.

Real processes, with the engine as it is: their system calls are recorded and merged, and the folder
is looked at as a power cut would leave it behind any of them.  What is left is a prefix of the
log, with whole batches, and all that any process had been told was durable.
Set KVENGINE_LONG=1 to try more seeds and all numbers.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvengine import Store
from kvengine.testing.crashing import MODELS, CrashedFolder
from kvengine.testing.history import State, content_of
from tests.crash import recorded_calls
from tests.crash.cut_worker import Story, after
from tests.crash.recorded_calls import Recordings

LONG = os.environ.get("KVENGINE_LONG") == "1"
SEEDS = range(40 if LONG else 1)
CUTS = 400 if LONG else 40  # of each history and model
WRITES = 50
PAUSE_US = 2000  # the longest sync
HANG_S = 120
HALFWAY, AFTER = 1, 2
MAGIC = int.from_bytes(b"VKCTRL02", "little")

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or not sys.platform.startswith("linux"),
    reason="there is no C compiler, or no /proc",
)


class Workers:
    """Processes that write to folder/store; see cut_worker.py.

    The first `kills` of them are killed when their turn comes, and others follow at once.
    """

    def __init__(self, folder: Path, library: Path, source: random.Random) -> None:
        self.folder, self.library, self.source = folder, library, source
        self.processes: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def start(self, waits: str, **settings: int) -> subprocess.Popen[bytes]:
        """Start one; it `waits` for go() before it opens the store, or after that."""
        given = {
            "seed": self.source.randrange(1 << 30),
            "writes": WRITES,
            "waits": waits,
            "syncs": self.source.random() < 0.3,
        }
        who = f"p{len(self.processes)}"
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.crash.cut_worker",
                self.folder / "store",
                json.dumps(given),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=recorded_calls.environment(
                self.library, self.folder, who, pause_us=PAUSE_US, **settings
            ),
        )
        self.processes.append(process)
        return process

    def kill_settings(self) -> dict[str, int]:
        """Return when one is to be killed: mostly as it writes to the log."""
        if self.source.random() < 0.3:
            return {"kill_at": self.source.randrange(1, 90), "kill_how": self.source.randrange(3)}
        how = self.source.choice([HALFWAY, HALFWAY, AFTER])
        return {"kill_at": self.source.randrange(3, 30), "kill_in_log": 1, "kill_how": how}

    def run(self, processes: int, kills: int) -> None:
        """Let them write until all have ended, well or killed."""
        try:
            self._run(processes, kills)
        finally:
            for process in self.processes:
                process.kill()
                process.communicate()

    def _run(self, processes: int, kills: int) -> None:
        at_work = [
            self.start("open", **(self.kill_settings() if number < kills else {}))
            for number in range(processes)
        ]
        to_come = [self.start("closed") for _ in range(kills)]
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in at_work:
            go(process)
        end = time.monotonic() + HANG_S
        while at_work:
            assert time.monotonic() < end, "a process hangs"
            time.sleep(0.001)
            for process in [one for one in at_work if one.poll() is not None]:
                at_work.remove(process)
                if process.returncode == -signal.SIGKILL:
                    self.killed += 1
                    at_work.append(to_come.pop())
                    go(at_work[-1])
                else:
                    assert process.returncode == 0


def go(process: subprocess.Popen[bytes]) -> None:
    """Tell one that waits to go on."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it was killed as it opened the store
        process.stdin.write(b"\n")
        process.stdin.flush()


def page_of_another_boot(durable: int) -> bytes:
    """Return a control page that has come to disk: only what it says is durable counts."""
    return struct.pack("<5Q", MAGIC, 7, 1, 1 << 40, durable).ljust(4096, b"\0")


class Judge:
    """What may be left of a recorded history."""

    def __init__(self, folder: Path) -> None:
        self.recordings = Recordings(folder)
        self.story = Story(self.recordings)
        self.histories = list(self.story.histories())

    def numbers(self, source: random.Random) -> list[int]:
        """Return behind which calls and marks to look: half of them are promises."""
        told = sorted({number for number, _ in self.story.durable})
        every = range(self.recordings.last + 1)
        chosen = (source.sample(some, min(CUTS // 2, len(some))) for some in (told, every))
        return sorted({number for numbers in chosen for number in numbers})

    def check(self, model: str, number: int, seed: int, where: str) -> None:
        """Open what a crash behind a call or mark leaves; it must be a prefix of the log."""
        recording = self.recordings.steps(number)
        left = CrashedFolder(recording, len(recording.steps)).folder(model, seed)
        least = self.story.least(number, power_is_lost=model != "kill")
        left.replace("CONTROL", page_of_another_boot(self.story.least(number, power_is_lost=True)))
        with Store._in_directory(left, compaction="manual") as store:
            version, found = store.version, content_of(store)
            assert version >= least, where
            assert self.is_prefix(version, found, least), f"{where}: no prefix of the log"
            assert store.verify().ok, where
            assert store.put(b"after", b"1") == version + 1, where
        with Store._in_directory(left, rebuild=True, compaction="manual") as store:
            assert content_of(store) == {**found, b"after": (b"1", version + 1)}, where

    def is_prefix(self, version: int, found: State, least: int) -> bool:
        """True if a store may hold this.

        A write whose process was killed in it may be the last one, in the place of one that came
        later and was not durable yet.
        """
        if any(states.get(version) == found for states in self.histories):
            return True
        for write in self.story.killed():
            before = version - len(write.changes)
            for states in self.histories:
                if before >= least and before in states:
                    ended = {before: states[before]}
                    after(ended, before, write.changes)
                    if ended[version] == found:
                        return True
        return False


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return recorded_calls.build(tmp_path_factory.mktemp("record"))


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("kills", [0, 1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_power_cut_leaves_of_processes(seed, kills, processes, tmp_path, library):
    source = random.Random(f"{seed} {kills} {processes}")
    workers = Workers(tmp_path, library, source)
    workers.run(processes, kills)
    judge = Judge(tmp_path)
    with Store(tmp_path / "store") as store:  # what is there in truth
        least = judge.story.least(judge.recordings.last, power_is_lost=False)
        assert judge.is_prefix(store.version, content_of(store), least)
    for model in MODELS:
        for number in judge.numbers(source):
            where = f"seed {seed}, {workers.killed} killed, {model}, number {number}"
            judge.check(model, number, seed * 1_000_003 + number, where)


FILLED_DURING_A_SYNC = """
import ctypes, os, sys, threading, time
from kvengine import Store
from tests.crash.cut_worker import mark

recorder = ctypes.CDLL(None)
store = Store(sys.argv[1], segment_bytes=4096, log_writes="pwrite", compaction="manual")
store._parts.maintenance.wake = lambda: None
store.put(b"first", b"", durability="sync")
recorder.record_hold(1)
thread = threading.Thread(target=store.put, args=(b"waits", b""))
thread.start()
while not recorder.record_held():
    time.sleep(0.001)
while len(store._parts.rows) == 1:
    store.put(b"during the sync", bytes(500), durability="os")
recorder.record_hold(0)
thread.join()
mark(durable=store.put(b"last", b""))
os._exit(0)
"""


def test_a_segment_that_is_filled_during_a_sync_needs_another(tmp_path, library):
    subprocess.run(
        [sys.executable, "-c", FILLED_DURING_A_SYNC, tmp_path / "store"],
        env=recorded_calls.environment(library, tmp_path, "p0"),
        check=True,
        timeout=HANG_S,
    )
    recordings = Recordings(tmp_path)
    ((number, version),) = Story(recordings).durable
    steps = recordings.steps(number)
    with Store._in_directory(CrashedFolder(steps, len(steps.steps)).folder("ordered")) as store:
        assert store.version == version
