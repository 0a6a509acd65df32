"""What is interrupted: public calls, the state that they begin with, and what may come of them.

Invariants:

* Each scenario begins with a copy of the same folder, so the n-th line of its call is always the
  same one.
* `allowed` is every state that may be seen afterwards: that from before and that from after the
  call, or what lies between where a call is documented to work in steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvengine import Store

SMALL = {"segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual"}
State = dict[bytes, bytes]


def content(store: Store) -> State:
    """Return what a store holds."""
    return {entry.key: entry.value for entry in store.scan()}


def fill(path: Path) -> None:
    """Make a store of several segments, with dead records, deletes and key runs."""
    with Store(path, durability="os", **SMALL) as store:
        for n in range(90):
            store.put(b"key %03d" % (n % 60), b"value %d " % n * 9, metadata=b"%d" % n)
        store.checkpoint()
        for n in range(0, 40, 3):
            store.delete(b"key %03d" % n)
        for n in range(20):
            store.put(b"late %03d" % n, b"%d" % n * 20)


@dataclass(frozen=True)
class Scenario:
    """One public call.

    Args:
        name: of the call.
        act: makes the call.
        after: what the state is when the call has ended; None: as before.
        between: True if any subset of the call's changes may be seen.
        begin: gets the store ready; what it returns is given to `act` beside the store.
    """

    name: str
    act: Callable[[Store, Any], Any]
    after: Callable[[State], State] | None = None
    between: bool = False
    begin: Callable[[Store], Any] = lambda store: None

    def allows(self, before: State, found: State) -> bool:
        """True if a state may be seen after the call was interrupted."""
        after = before if self.after is None else self.after(dict(before))
        if found in (before, after):
            return True
        return self.between and all(
            found.get(key) in (before.get(key), after.get(key))
            for key in before.keys() | after.keys() | found.keys()
        )


def with_pairs(**pairs: bytes) -> Callable[[State], State]:
    return lambda state: {**state, **{key.encode(): value for key, value in pairs.items()}}


def without(*keys: bytes) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key not in keys}


LARGE = b"v" * 5000
BATCH = {b"b%d" % n: b"w%d" % n * 30 for n in range(40)}


def commit_batch(store: Store, _: Any) -> None:
    with store.batch() as batch:
        for key, value in BATCH.items():
            batch.put(key, value)
        batch.delete(b"key 001")


def after_batch(state: State) -> State:
    return without(b"key 001")({**state, **BATCH})


def open_files(store: Store, _: Any = None) -> None:
    """Let the log be several segments that are not closed yet."""
    for n in range(60):
        store.put(b"open %02d" % n, b"o" * 200)


def with_open_files(state: State) -> State:
    return {**state, **{b"open %02d" % n: b"o" * 200 for n in range(60)}}


WRITES = [
    Scenario("put", lambda s, _: s.put(b"new", b"1"), with_pairs(new=b"1")),
    Scenario("put large", lambda s, _: s.put(b"new", LARGE), with_pairs(new=LARGE)),
    Scenario("put os", lambda s, _: s.put(b"new", b"1", durability="os"), with_pairs(new=b"1")),
    Scenario(
        "overwrite", lambda s, _: s.put(b"late 001", b"2"), lambda d: {**d, b"late 001": b"2"}
    ),
    Scenario("delete", lambda s, _: s.delete(b"late 001"), without(b"late 001")),
    Scenario("batch", commit_batch, after_batch),
    Scenario("update", lambda s, _: s.update(BATCH), lambda d: {**d, **BATCH}),
    Scenario("pop", lambda s, _: s.pop(b"late 001"), without(b"late 001")),
    Scenario("setdefault", lambda s, _: s.setdefault(b"new", b"1"), with_pairs(new=b"1")),
    Scenario("clear", lambda s, _: s.clear(), lambda d: {}, between=True),
    Scenario("puts over segments", open_files, with_open_files, between=True),
    Scenario("del item", lambda s, _: s.__delitem__(b"late 001"), without(b"late 001")),
]
JOBS = [
    Scenario("compact", lambda s, _: s.compact()),
    Scenario("compact with progress", lambda s, _: s.compact(lambda done, total: None)),
    Scenario("compact much", lambda s, _: s.compact(), begin=open_files),
    Scenario("checkpoint", lambda s, _: s.checkpoint()),
    Scenario("checkpoint after writes", lambda s, _: s.checkpoint(), begin=open_files),
    Scenario(
        "sync", lambda s, _: s.sync(), begin=lambda s: s.put(b"late 000", b"x", durability="os")
    ),
    Scenario("verify", lambda s, _: s.verify()),
    Scenario("digest", lambda s, _: s.digest()),
    Scenario("stats", lambda s, _: s.stats()),
]


def read_all(store: Store, _: Any) -> None:
    assert store.get(b"late 001")
    assert store.get_many([b"late 001", b"none"])
    assert list(store.keys(b"late", reverse=True, limit=5))
    assert len(list(store.items())) == len(store)
    assert store.get_entry(b"late 001")
    assert b"late 001" in store


def tail_all(store: Store, _: Any) -> None:
    assert list(store.tail())
    assert list(store.history(b"late 001"))
    assert store.wait(0, timeout=0)


def use_snapshot(store: Store, _: Any) -> None:
    with store.snapshot() as frozen:
        assert content(frozen) == content(store)


def use_consumer(store: Store, _: Any) -> None:
    consumer = store.consumer("worker")
    seen = [change.version for change in consumer.changes()]
    if seen:
        consumer.acknowledge(seen[-1])
    assert [info.name for info in store.consumers()] == ["worker"]
    consumer.restart()
    consumer.remove()


def use_batches(store: Store, _: Any) -> None:
    consumer = store.consumer("other")
    for batch in consumer.batches(20):
        consumer.acknowledge(batch[-1].version)
    assert consumer.lag == 0


READS = [
    Scenario("reads", read_all),
    Scenario("tail", tail_all),
    Scenario("snapshot", use_snapshot),
    Scenario("consumer", use_consumer),
    Scenario("consumer batches", use_batches),
]


def copy_of(template: Path, folder: Path) -> Path:
    """Return a fresh copy of a store, in memory where the system has that."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder
