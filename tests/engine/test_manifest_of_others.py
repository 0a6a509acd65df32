"""Manifests that several processes replace: which one is in place, and what goes with it.

Each store object here stands for a process: they share nothing but the folder.
"""

import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvengine import Store, StoreClosed
from kvengine.engine import closing
from kvengine.engine.log import segment_file
from kvengine.engine.log.manifest import LOG
from kvengine.engine.log.names import id_of, is_manifest_to_be
from kvengine.engine.log.segment_file import SegmentHeader
from kvengine.file.folder import rest
from kvengine.testing.check import check_store
from tests.waiting import HANG_S

MANUAL = {"durability": "os", "compaction": "manual", "segment_bytes": 8192}


@pytest.fixture
def stores(tmp_path):
    with Store(tmp_path, **MANUAL) as store, Store(tmp_path, **MANUAL) as other:
        store.update({b"%d" % number: bytes(100) for number in range(20)})
        yield store, other


def test_a_manifest_that_came_after_the_own_is_not_taken_for_it(stores, monkeypatch):
    """A process is stopped behind the rename of its manifest, and another one replaces it."""
    store, other = stores
    put_in_place, attempts = store._parts._put_in_place, []

    def stop_behind_the_rename(*arguments):
        attempts.append(arguments)
        assert len(attempts) < 5
        put_in_place(*arguments)
        if len(attempts) == 1:
            store._parts.end_jobs(store._parts.token)
            other.checkpoint()

    monkeypatch.setattr(store._parts, "_put_in_place", stop_behind_the_rename)
    store._parts.maintenance.run(store._parts.replace_manifest)
    store.checkpoint()
    assert store._parts.manifest.generation > other._parts.manifest.generation
    check_store(store)
    check_store(other)


def test_a_job_does_not_finish_what_it_began_before_its_store_started_over(stores, monkeypatch):
    """Another process was killed as it began a segment, so the log does not go on from here."""
    store, _ = stores
    raise_min_segment, floors, finished = store._parts.raise_min_segment, [], []

    def start_over_first():
        if not floors:
            store._parts.follower.start_over()
        floors.append(raise_min_segment() if floors else 0)
        return floors[-1]

    def job():
        table = store._parts.segment_table
        store._parts.replace_manifest(lambda: finished.append(store._parts.segment_table is table))

    monkeypatch.setattr(store._parts, "raise_min_segment", start_over_first)
    store._parts.maintenance.run(job)
    assert finished == [True]
    assert len(floors) > 1
    check_store(store)


def test_a_job_gives_way_to_a_thread_that_starts_over(stores):
    store, _ = stores
    begun, turns = threading.Event(), []

    def job():
        turns.append(None)
        begun.set()
        if len(turns) == 1:
            store._parts.maintenance.rest(HANG_S / 4)
            return "was not told"
        return "done"

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(store._parts.maintenance.run, job)
        begun.wait()
        store._parts.follower.start_over()
        assert result.result() == "done"
    check_store(store)


def test_who_closes_does_not_give_a_job_back_what_it_has_lost(stores, monkeypatch):
    store, _ = stores
    begun, closes, seen = threading.Event(), threading.Event(), []

    def job():
        if not begun.is_set():
            store._parts.end_jobs(store._parts.token)
            begun.set()
            closes.wait()
            for _ in range(100):
                rest(0.001)
                seen.append(store._parts.still_has_jobs(store._parts.token))
            store._parts.maintenance.check()

    def has_jobs(_):
        closes.set()
        return True

    monkeypatch.setattr(closing, "_has_jobs", has_jobs)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(store._parts.maintenance.run, job)
        begun.wait()
        store.close()
        assert set(seen) == {False}
        assert isinstance(result.exception(), StoreClosed | None)


def leave_files(store):
    """Leave what a process leaves that is killed in a job, and while it makes a segment."""
    path = store._parts.directory.path
    for kind in ("keys", "index", "log"):
        with open(f"{path}/{store._parts.take_id():08x}.{kind}", "xb") as file:
            file.write(bytes(1000))
    number = store._parts.take_id()
    uuid, first = store._parts.manifest.uuid, store.version + 1
    header = SegmentHeader(LOG, uuid, number, first, secrets.randbits(64))
    segment_file.make(store._parts.directory, number).write(header.encode(), 0)
    with open(f"{path}/MANIFEST.{secrets.randbits(60):x}.tmp", "xb") as file:
        file.write(b"manif")


def in_use(store):
    names = {segment_file.file_name(row.id) for row in store._parts.manifest.segments}
    return {*names, *store._parts.manifest.key_runs, f"{store._parts.manifest.index[0]:08x}.index"}


@pytest.mark.parametrize("job", ["checkpoint", "compact"])
def test_files_of_killed_jobs_go_while_others_have_the_store_open(stores, job):
    store, other = stores
    other.put(b"1", b"of the other")
    store.checkpoint()
    leave_files(other)
    while other._parts.next_segment is None:  # made ahead, and not begun before the manifest
        other._parts._make_segment()
    store.put(b"1", b"")
    getattr(store, job)()
    names = os.listdir(store._parts.directory.path)
    assert not any(is_manifest_to_be(name) for name in names)
    assert {name for name in names if id_of(name)} == in_use(store)
    for one in (store, other):
        one.update({b"%d" % number: bytes(900) for number in range(20)})
    check_store(store)
    check_store(other)
    other.compact()
    check_store(store)


def test_files_of_a_job_that_another_process_does_now_may_be_gone(stores):
    store, _ = stores
    turns = []

    def job():
        turns.append(None)
        if len(turns) == 1:
            store._parts.end_jobs(store._parts.token)
            raise FileNotFoundError
        return "done"

    assert store._parts.maintenance.run(job) == "done"
    assert len(turns) == 2
    with pytest.raises(FileNotFoundError):
        store._parts.maintenance.run(lambda: store._parts.directory.size("00000000.keys"))


def test_a_store_in_memory_makes_segments_while_its_manifest_is_replaced():
    """Nobody else was there, so none of its files is one that was left."""
    with Store.in_memory(durability="os", compaction="manual") as store:
        store.put(b"key", b"value")
        name = segment_file.file_name(store._parts.take_id())
        store._parts.directory.open(
            name, new=True, writable=True, map_bytes=4096
        )  # as another thread
        store._parts.maintenance.run(store._parts.replace_manifest)
        store._parts.maintenance.run(store._parts.remove_loose)
        assert name in store._parts.directory.names()
