"""A process that writes to a store while its system calls are recorded: see recorded_calls.py.

    python -m tests.crash.cut_worker STORE \
        '{"seed": 7, "writes": 40, "waits": "open", "syncs": false}'

It marks in the recording what it asks for and what was acknowledged; `Story` reads that again.

Invariants:

* A write is marked before it begins, with what decides its changes, and after it has returned.
* With `syncs` a thread syncs all the time, too.
* It says "ready", with the store `waits`: open, or still closed, and goes on when it gets a line.
"""

from __future__ import annotations

import ctypes
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from kvengine import Store
from kvengine.testing.history import Change, State, apply, random_changes
from tests.crash.recorded_calls import Recordings

LEVELS = (("group", "group", "sync", "os"), ("group", *["os"] * 9))  # a process has one of these
LARGE_BYTES = 70_000
OPTIONS = {
    "segment_bytes": 4096,
    "key_buffer_entries": 16,
    "checkpoint_records": 60,
    "log_writes": "pwrite",
}


def mark(**what: Any) -> None:
    """Write something down in the recording."""
    ctypes.CDLL(None).record_mark(json.dumps(what).encode())


def changes_of(seed: int) -> list[Change]:
    """Return the changes of the write with a seed: rarely a value written without the GIL."""
    source = random.Random(seed)
    if source.random() < 0.04:
        return [(b"large", source.randbytes(LARGE_BYTES))]
    return random_changes(source)


def sync_on_and_on(store: Store, end: threading.Event) -> None:
    """Sync without a pause, as another thread."""
    while not end.is_set():
        version = store.version
        store.sync()
        mark(durable=version)
        time.sleep(0.0002)


def work(store: Store, source: random.Random, writes: int) -> None:
    """Write, and do a job now and then."""
    levels = source.choice(LEVELS)
    for _ in range(writes):
        if source.random() < 0.03:
            (store.compact if source.random() < 0.7 else store.checkpoint)()
        if source.random() < 0.05:
            version = store.version
            store.sync()
            mark(durable=version)
        seed, level = source.randrange(1 << 40), source.choice(levels)
        mark(seed=seed)
        version = apply(store, changes_of(seed), level)
        mark(version=version, is_durable=level != "os")
        mark(durable=store._parts.control_page.durable_version)


def main() -> None:
    """Do what the arguments say."""
    path, given = sys.argv[1], json.loads(sys.argv[2])
    source = random.Random(given["seed"])
    if given["waits"] == "closed":
        wait()
    store = Store(path, **OPTIONS)
    if given["waits"] == "open":
        wait()
    end = threading.Event()
    thread = threading.Thread(target=sync_on_and_on, args=(store, end))
    if given["syncs"]:
        thread.start()
    work(store, source, given["writes"])
    end.set()
    if given["syncs"]:
        thread.join()
    version = store.version
    store.close()
    mark(durable=version)


def wait() -> None:
    """Say so, and wait for a line."""
    print("ready", flush=True)
    sys.stdin.readline()


@dataclass(slots=True)
class Written:
    """One write: `version` is 0 if it changed nothing, None if its process was killed in it."""

    changes: list[Change]
    begun: int
    ended: int = 0
    version: int | None = None


@dataclass(slots=True)
class Story:
    """What processes have written, and what they were told, from the marks of recordings."""

    writes: list[Written] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)  # (number, version) that was told
    durable: list[tuple[int, int]] = field(default_factory=list)  # the same, said to be durable

    def __init__(self, recordings: Recordings) -> None:
        self.writes, self.seen, self.durable = [], [], []
        under_way: dict[str, Written] = {}
        for one in recordings.marks:
            found = json.loads(one.text)
            if "seed" in found:
                under_way[one.who] = Written(changes_of(found["seed"]), one.number)
                self.writes.append(under_way[one.who])
            elif "durable" in found:
                self.durable.append((one.number, found["durable"]))
            else:
                write = under_way.pop(one.who)
                write.ended, write.version = one.number, found["version"]
                self.seen.append((one.number, write.version))
                if found["is_durable"]:
                    self.durable.append((one.number, write.version))

    def least(self, number: int, *, power_is_lost: bool) -> int:
        """Return the version that must be there after a crash behind this call or mark."""
        told = self.durable if power_is_lost else [*self.durable, *self.seen]
        return max((version for at, version in told if at <= number), default=0)

    def killed(self) -> list[Written]:
        """Return the writes whose processes were killed in them."""
        return [write for write in self.writes if write.version is None]

    def histories(self) -> Iterator[dict[int, State]]:
        """Yield what the store may have held as of each version with which a write ended.

        A write whose process was killed may have become visible: where versions are missing,
        one of these must have them.
        """
        told = sorted(
            ((write.version, write.changes) for write in self.writes if write.version),
            key=lambda one: one[0],
        )
        found = False
        for order in permutations(self.killed()):
            states = _states(told, [write.changes for write in order])
            if states is not None:
                found = True
                yield states
        assert found, "versions are missing, or were given twice"


def _states(
    told: list[tuple[int, list[Change]]], killed: list[list[Change]]
) -> dict[int, State] | None:
    """Return the states, with writes of the killed in the gaps; None if they do not fit."""
    killed, states = list(killed), {0: {}}
    last = 0
    for version, changes in told:
        while last < version - len(changes) and killed:
            last = after(states, last, killed.pop(0))
        if last != version - len(changes):
            return None
        last = after(states, last, changes)
    return states


def after(states: dict[int, State], last: int, changes: list[Change]) -> int:
    """Add the state after some changes to one; return its version."""
    state = dict(states[last])
    for number, (key, value) in enumerate(changes, last + 1):
        if value is None:
            state.pop(key, None)
        else:
            state[key] = (value, number)
    states[last + len(changes)] = state
    return last + len(changes)


if __name__ == "__main__":
    main()
