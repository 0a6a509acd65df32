"""Digests of a store that several processes write to: right, of now, and found in the end.

Each store object here stands for a process: they share nothing but the folder.
"""

import pytest

from kvengine import Store
from kvengine.engine import opening
from kvengine.engine.following import digest_scan, digesting
from kvengine.engine.recovery import loading

MANUAL = {"durability": "os", "compaction": "manual", "segment_bytes": 8192}


@pytest.fixture
def stores(tmp_path):
    with Store(tmp_path, **MANUAL) as store, Store(tmp_path, **MANUAL) as other:
        other.update({b"%d" % number: bytes(100) for number in range(20)})
        yield store, other


def check(store):
    """Compare the digest that goes along with that of a scan."""
    found = store.digest()
    with store.snapshot() as frozen:
        assert frozen.digest(moment=found.moment) == found


def hook(monkeypatch, owner, name, action):
    """Call `action` whenever something is about to be called; return the list of calls."""
    calls = []
    original = getattr(owner, name)

    def call(*arguments):
        calls.append(arguments)
        action(len(calls))
        return original(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


def lose_jobs_once(monkeypatch, store, other, job):
    """Let another process write and do a job when the first snapshot is about to be taken."""

    def lose_the_jobs(turn):
        if turn == 1:
            store._parts.end_jobs(store._parts.token)
            other.put(b"7", b"new")
            job()

    return hook(monkeypatch, opening, "snapshot", lose_the_jobs)


def test_what_other_processes_have_written_is_in_it(stores):
    store, other = stores
    for _ in range(2):
        other.put(b"more", b"%d" % other.version)
        assert store.digest().version == other.version
        check(store)


def test_no_other_process_compacts_away_what_is_summed(stores, monkeypatch):
    store, other = stores
    calls = lose_jobs_once(monkeypatch, store, other, other.compact)
    store.digest()
    monkeypatch.undo()
    assert len(calls) == 2
    check(store)


def test_nor_saves_an_index_of_later_changes(stores, monkeypatch):
    store, other = stores
    lose_jobs_once(monkeypatch, store, other, other.checkpoint)
    assert store.digest().version == other.version
    monkeypatch.undo()
    check(store)


def test_it_goes_along_though_the_store_starts_over(stores, monkeypatch):
    store, other = stores
    store.digest()
    snapshots = hook(monkeypatch, opening, "snapshot", lambda _: None)
    for number in range(3):
        other.put(b"%d" % number, b"new", expires_at=1e12)
        other.checkpoint()
        store._parts.follower.start_over()
        assert store.digest().version == other.version
        assert snapshots == []
    monkeypatch.undo()
    check(store)


def test_changes_that_come_once_more_count_once(stores):
    store, _ = stores
    store.digest()
    before = store.version
    store.put(b"7", b"new")
    store.put(b"soon", b"7", expires_at=1e12)
    store.delete(b"8")
    for _ in range(2):
        loading.recover(
            store._parts, store._parts.control_page, store._parts.manifest, until=before
        )
        assert store._parts.applied_version == before
        check(store)
    store.put(b"9", b"new")
    check(store)


def test_it_is_found_though_the_store_starts_over_during_each_scan(stores, monkeypatch):
    store, other = stores

    def start_over(turn):
        assert turn < 3
        other._parts.end_active_segment()
        other.put(b"7", b"%d" % turn)
        other.checkpoint()
        store._parts.follower.start_over()

    hook(monkeypatch, digesting, "RangeWalk", start_over)
    found = store.digest()
    monkeypatch.undo()
    history = [change for change in store.tail() if change.version <= found.version]
    assert found.version == 20
    assert found.keys == len(history) == 20
    check(store)


def test_a_range_is_of_one_version_though_the_store_starts_over_meanwhile(stores, monkeypatch):
    store, other = stores
    other.update({b"%05d" % number: b"old" for number in range(1500)})
    before = store.version
    other.update({b"%05d" % number: b"new" for number in range(1500)})
    version = store.version
    hook(
        monkeypatch,
        digest_scan,
        "yield_gil",
        lambda turn: (
            turn == 1
            and loading.recover(
                store._parts, store._parts.control_page, store._parts.manifest, until=before
            )
        ),
    )
    found = store.digest(start=b"0")
    monkeypatch.undo()
    assert found.version == version
    with store.snapshot() as frozen:
        assert frozen.digest(start=b"0", moment=found.moment) == found
