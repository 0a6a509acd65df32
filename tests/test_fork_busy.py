"""Forks in the middle of things: threads that write, compact and close, pools, ends of children."""

import atexit
import gc
import multiprocessing
import os
import threading
import weakref

import pytest

import kvengine
from kvengine import Database, Store, StoreLocked
from kvengine.testing.check import check_store
from tests.forking import PATIENCE_S, error_of, in_child


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def busy_store(path):
    """Return a store in which other threads write, read, compact and sync, and what ends them."""
    store = Store(path, segment_bytes=16384, key_buffer_entries=64, durability="group")
    ended, failed = threading.Event(), []

    def work(step):
        try:
            while not ended.is_set():
                step()
        except kvengine.KvError as error:
            failed.append(error)

    def write():
        store.update({b"%03d" % n: os.urandom(200) for n in range(100)})

    steps = [write, write, lambda: list(store.scan()), store.compact, store.checkpoint, store.sync]
    steps.append(lambda: store.get_many([b"%03d" % n for n in range(100)]))
    threads = [threading.Thread(target=work, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()

    def end():
        ended.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert failed == []

    return store, end


def test_forks_while_threads_write_read_and_compact(path):
    store, end = busy_store(path)
    reader = Store(path, read_only=True)
    reading = threading.Event()
    thread = threading.Thread(target=lambda: [len(reader) for _ in iter(reading.is_set, True)])
    thread.start()

    def look():
        calls = [lambda: store.put(b"a", b""), lambda: store.delete(b"a"), lambda: store.get(b"a")]
        calls += [store.compact, store.checkpoint, store.sync, store.stats, store.clear]
        errors = {error_of(call) for call in calls}
        store.put(b"of the child", b"1")
        store.close()
        before = reader.version
        found = len(reader), reader.version >= before, len(list(reader.tail(before))) >= 0
        reader.close()
        gc.collect()
        return errors, found[0] <= 101, found[1:]

    for _ in range(8):
        assert in_child(look) == ({"no error"}, True, (True, True))
    reading.set()
    thread.join(PATIENCE_S)
    end()
    store[b"after"] = b"1"
    assert reader[b"after"] == store[b"of the child"] == b"1"
    reader.close()
    check_store(store)
    store.close()
    with Store(path) as again:
        assert again[b"after"] == b"1"
        check_store(again)


def test_a_fork_while_another_thread_closes(path):
    for turn in range(10):
        store = Store(path)
        store.update({b"%d" % n: b"x" * 500 for n in range(200)})
        closing = threading.Thread(target=store.close)
        closing.start()

        def look(store=store):
            try:
                return store.get(b"1") == b"x" * 500  # it was open still: it opens again
            except kvengine.StoreClosed:
                return True
            finally:
                store.close()

        assert in_child(look), turn
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
    with Store(path) as store:
        assert len(store) == 200


def ask(number):
    """Run in a process of a pool: SHARED was opened before it was forked."""
    writer, reader = SHARED
    version = writer.put(b"from %d" % os.getpid(), b"%d" % number)
    return version, os.getpid(), reader[b"from %d" % os.getpid()] == b"%d" % number


SHARED: list[Store] = []


def test_a_pool_of_processes(path):
    with Store(path) as writer, Store(path, read_only=True) as reader:
        writer.update({b"%d" % n: b"value %d" % n for n in range(20)})
        SHARED[:] = [writer, reader]
        try:
            with multiprocessing.get_context("fork").Pool(3) as pool:
                found = pool.map_async(ask, range(20)).get(PATIENCE_S)
        finally:
            SHARED.clear()
        assert sorted(version for version, _, _ in found) == list(range(21, 41))
        assert all(is_seen for _, _, is_seen in found)
        for pid in {pid for _, pid, _ in found}:
            assert b"from %d" % pid in writer


def test_the_end_of_a_child_does_not_disturb_the_parent(path):
    """Finalizers, exit handlers and the collector run in it as in any process."""
    store = Store(path, durability="interval")
    store[b"key"] = b"value"
    db = Database.in_memory()
    weakref.finalize(store, lambda: None)
    process = multiprocessing.get_context("fork").Process(target=gc.collect)
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    pid = os.fork()
    if pid == 0:
        try:
            atexit._run_exitfuncs()
            del store, db
            gc.collect()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store[b"more"] = b"1"
    with pytest.raises(StoreLocked):  # the lock is the parent's still
        Store(path, exclusive=True)
    with Store(path, read_only=True) as reader:
        assert dict(reader) == dict(store)
    db.namespace("works").put("a", "1")
    db.close()
    store.close()
