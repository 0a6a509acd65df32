"""The next put after a process was killed in the middle of one.

Invariants:
* Who is killed was stopped at a random instruction first, and the control page says that it had the
  write lock and had not published yet.  One that was stopped anywhere else goes on.
* Another process knows all that was published, and waits for the write lock when the kill comes.
  The time begins before the kill and ends when the put of that one has returned.
* If nobody has synced since the kill before this one, the next put begins with a sync: the segment
  that was begun then must be on disk.  The page says so, and it is written down.
"""

import contextlib
import json
import mmap
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.child import Child, ChildFailed
from benchmarks.driver import human_ns
from benchmarks.processes.crew import PATIENCE_S, Crew
from benchmarks.processes.settings import Say, Settings
from benchmarks.report.lookup import OURS

_WRITING, _SEGMENT, _NAMED, _TAKEN_OVER = 16, 18, 24, 26  # words of the page: see FORMAT.md
_WAITING_S = 0.005  # how long the other one has been waiting when the kill comes
_RUNNING_S = 0.002  # at most, between two stops
_MOMENT_S = 0.001  # a job of the other process may write, too, but not for so long


def after_kills(settings: Settings, folder: Path, say: Say) -> dict[str, Any]:
    """Nanoseconds from each kill to the next put of another process; had that to sync first?"""
    path = folder / "kills"
    crew = Crew(settings.task(), 1)
    try:
        with crew.on([_open(settings, path, 0)]):
            rows = [
                _next_put(settings, crew, path, index) for index in range(1, settings.kills + 1)
            ]
    except ChildFailed as error:
        say(f"the next put after a kill: {error}")
        return {"error": str(error)}
    finally:
        crew.stop()
    taken = [row["ns"] for row in rows]
    middle, longest = human_ns(median(taken)), human_ns(max(taken))
    say(f"the next put after a kill: {middle}, the longest of {len(taken)} {longest}")
    return {"rows": rows}


def _open(settings: Settings, path: Path, index: int) -> dict[str, Any]:
    return {
        "do": "open",
        "engine": OURS,
        "settings": "default",
        "path": str(path),
        "durability": "os",
        "load": index == 0,
        "first": settings.loaded + min(index, 1) * settings.own,
        "count": settings.own,
    }


def _next_put(settings: Settings, crew: Crew, path: Path, index: int) -> dict[str, Any]:
    """Kill a process in the middle of a put; return how long the next one took from there."""
    killed_ns: list[int] = []
    with _writing(settings, path, index) as victim:
        sync_is_due = _stop_in_mid_write(victim.process.pid, path)
        crew.ask([{"do": "check", "keys": ["00"]}])  # takes in what was published

        def kill() -> None:
            killed_ns.append(time.perf_counter_ns())
            victim.process.kill()

        timer = threading.Timer(_WAITING_S, kill)
        timer.start()
        (answer,) = crew.ask([{"do": "put once"}])
        timer.join()
    if answer["ended_ns"] < killed_ns[0]:
        raise ChildFailed("a put has returned while another process was in the middle of one")
    return {"ns": answer["ended_ns"] - killed_ns[0], "sync_is_due": sync_is_due}


@contextlib.contextmanager
def _writing(settings: Settings, path: Path, index: int) -> Iterator[Child]:
    """Run a process that puts as fast as it can; it has ended afterwards."""
    with Child("benchmarks.processes.child", settings.task() | {"index": index}) as child:
        hung = threading.Timer(PATIENCE_S, child.process.kill)
        hung.start()
        try:
            for order in (_open(settings, path, index), {"do": "put", "seconds": 2 * PATIENCE_S}):
                child.send(json.dumps(order))
                answer = json.loads(child.line())
                if "error" in answer:
                    raise ChildFailed(answer["error"])
            child.send(json.dumps({"start_ns": time.perf_counter_ns()}))
            yield child
        finally:
            hung.cancel()
            child.process.kill()


def _stop_in_mid_write(pid: int, path: Path) -> bool:
    """Stop a process again and again until that is between append and publication.

    True if the next segment may not begin before a sync.
    """
    chance = random.Random(pid)
    with (
        (path / "CONTROL").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as page,
        memoryview(page) as octets,
        octets.cast("Q") as words,
    ):
        while True:
            time.sleep(chance.uniform(0, _RUNNING_S))
            os.kill(pid, signal.SIGSTOP)
            _, status = os.waitpid(pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                raise ChildFailed("the process that was to be killed in a put has ended before")
            if words[_WRITING]:
                time.sleep(_MOMENT_S)
                if words[_WRITING]:
                    newest = words[_TAKEN_OVER] == words[_SEGMENT]
                    return newest and words[_NAMED] < words[_TAKEN_OVER]
            os.kill(pid, signal.SIGCONT)
