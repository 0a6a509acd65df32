"""Processes that use one store, are killed, stopped and started again, and write down all they do.

    python -m tests.processes.histories FOLDER '{"processes": 4, "kills": 40, "seed": 7}'

FOLDER/store is the store, beside it lie the files of all calls; see recording.py.  It exits with
status 1 if a process met an error, or if one hung: then `store.error` and `store.stacks` say more.

Invariants:

* The processes are forked by one that has no threads and does not open the store, unless it is to
  be open before the forks.
* One that is killed is waited for and followed by another; one that is stopped goes on later.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import mmap
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes.faces import TRIPLE, StoreFace, open_face
from tests.processes.recording import Recorder, tag_of
from tests.processes.workload import COUNTERS, KEYS, NUMBERS, run_worker

HANG_S = 60
OPTIONS = {
    "segment_bytes": 16384,
    "key_buffer_entries": 16,
    "checkpoint_records": 400,
    "sync_interval_s": 0.01,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a history goes."""

    seed: int
    processes: int = 3
    threads: int = 2  # at most, of each process
    kills: int = 25
    stops: float = 0.3  # how many of the processes are stopped for a while before each kill
    kinds: tuple[str, ...] = ("store",)
    pause_s: float = 0.05  # between two kills, at most
    is_preloaded: bool = False  # opened before the forks


class Conductor:
    """Starts, kills and stops processes."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.path, self.settings = str(folder / "store"), settings
        self.source = random.Random(settings.seed)
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)  # byte 0: end; the others: who has done a call
        self.pids: dict[int, int] = {}  # by slot
        self.started = 0
        self.face: StoreFace | None = None
        self.stacks = open(f"{self.path}.stacks", "w")  # noqa: SIM115  # for as long as we live

    def start(self, slot: int, kinds: tuple[str, ...] = ()) -> None:
        """Start a process."""
        self.started += 1
        seed = self.source.randrange(1 << 30)
        pid = os.fork()
        if pid == 0:
            faulthandler.enable(self.stacks)
            faulthandler.register(signal.SIGUSR1, self.stacks, all_threads=True)
            run_worker(
                self.path,
                f"{self.started}",
                seed,
                self.shared,
                slot,
                kinds=kinds or self.settings.kinds,
                threads=self.settings.threads,
                options=OPTIONS,
                face=self.face,
            )
        self.pids[slot] = pid

    def run(self) -> None:
        """Run the whole history."""
        self.shared[0] = 1
        self.start(1, self.settings.kinds[:1])  # makes the store
        self.reap(1, is_killed=False, waits=True)
        self.shared[0] = 0
        if self.settings.is_preloaded:
            self.face = open_face(self.settings.kinds[0], self.path, **OPTIONS)
        try:
            for slot in range(1, self.settings.processes + 1):
                self.start(slot)
            for _ in range(self.settings.kills):
                self.disturb()
            self.finish()
            if self.face is not None:
                asyncio.run(self.face.close())
        finally:
            for pid in self.pids.values():
                os.kill(pid, signal.SIGKILL)

    def disturb(self) -> None:
        """Stop some processes and kill one, or rarely all."""
        time.sleep(self.source.random() * self.settings.pause_s)
        stopped = [slot for slot in self.pids if self.source.random() < self.settings.stops]
        for slot in stopped:
            os.kill(self.pids[slot], signal.SIGSTOP)
        if stopped:
            is_long = self.source.random() < 0.03  # longer than a lease lasts
            time.sleep(1.2 if is_long else self.source.random() * 0.03)
        victims = [self.source.choice(list(self.pids))]
        if self.source.random() < 0.05:
            victims = list(self.pids)
        for slot in victims:
            os.kill(self.pids[slot], signal.SIGKILL)
        for slot in stopped:
            os.kill(self.pids[slot], signal.SIGCONT)
        for slot in victims:
            self.reap(slot, is_killed=True)
            self.start(slot)
        for slot in list(self.pids):
            if self.reap(slot, is_killed=False):
                self.start(slot)
        self.wait_for_calls()

    def reap(self, slot: int, *, is_killed: bool, waits: bool = False) -> bool:
        """See whether a process has ended, and how."""
        pid, status = os.waitpid(self.pids[slot], 0 if is_killed or waits else os.WNOHANG)
        if pid == 0:
            return False
        del self.pids[slot]
        code = os.waitstatus_to_exitcode(status)
        assert code == 0 or (is_killed and code == -signal.SIGKILL), f"a process ended with {code}"
        return True

    def wait_for_calls(self) -> None:
        """Wait until one process has done a call, so that each kill meets another state."""
        before, end = self.shared[:], time.monotonic() + HANG_S
        while self.shared[:] == before:
            self.check_time(end)
            for slot in list(self.pids):
                if self.reap(slot, is_killed=False):
                    self.start(slot)
            time.sleep(0.001)

    def check_time(self, end: float) -> None:
        """Fail if something hangs; all processes say where they are."""
        if time.monotonic() > end:
            for pid in self.pids.values():
                os.kill(pid, signal.SIGUSR1)
                time.sleep(0.5)
            raise AssertionError("a process hangs")

    def finish(self) -> None:
        """Let each process do some calls more, then end all, and read what is left."""
        before, end = self.shared[:], time.monotonic() + HANG_S
        while any(self.shared[slot] == before[slot] for slot in self.pids):
            self.check_time(end)
            for slot in list(self.pids):
                if self.reap(slot, is_killed=False):
                    self.start(slot)
            time.sleep(0.002)
        self.shared[0] = 1
        end = time.monotonic() + HANG_S
        while self.pids:
            self.check_time(end)
            for slot in list(self.pids):
                self.reap(slot, is_killed=False)
            time.sleep(0.002)


def read_all(folder: Path, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Read what is left, and write it down as reads do; return figures."""

    async def read() -> dict[str, Any]:
        face = open_face(kinds[0], folder / "store", **OPTIONS)
        await face.start()
        record = Recorder(str(folder / "store.end.calls"))
        for key in [*KEYS, *TRIPLE, *COUNTERS]:
            record.began("read", keys=[key])
            found = await face.get(key)
            record.ended(found=[found and (found[0], tag_of(found[1]))])
        numbers = {}
        for key in NUMBERS:
            found = await face.get(key)
            numbers[key] = int(found[1]) if found else 0
        await face.close()
        return numbers

    return asyncio.run(read())


def main() -> None:
    """Run a history, as the arguments say."""
    folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    settings = Settings(**{**given, "kinds": tuple(given.get("kinds", ("store",)))})
    conductor = Conductor(folder, settings)
    try:
        conductor.run()
    except AssertionError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
