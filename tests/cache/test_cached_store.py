"""A CachedStore shows what its store has, at every moment, and mostly from memory."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvengine import CachedStore, InvalidRequest, InvalidType, KeyNotFound, Store, StoreClosed
from kvengine.testing.clock import ManualClock
from tests.waiting import meanwhile

KEYS = st.sampled_from([b"a", b"b", b"c", b"dd" * 100])
VALUES = st.binary(max_size=40) | st.just(b"x" * 5000)


class CachedStoreMachine(RuleBasedStateMachine):
    """A cached store, and one that is not."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.store = Store.in_memory(clock=self.clock, segment_bytes=4096)
        self.cached = CachedStore(self.store, memory_bytes=20_000)

    @rule(key=KEYS, value=VALUES, ttl=st.none() | st.integers(1, 5))
    def put(self, key, value, ttl):
        ends = None if ttl is None else self.clock.time() + ttl
        self.store.put(key, value, expires_at=ends)

    @rule(key=KEYS, value=VALUES)
    def put_through(self, key, value):
        assert self.cached.put(key, value) == self.store.version
        assert self.cached[key] == value

    @rule(key=KEYS)
    def delete(self, key):
        self.cached.delete(key)
        assert key not in self.cached

    @rule(key=KEYS)
    def batch(self, key):
        with self.store.batch() as batch:
            batch.put(key, b"batch")
            batch.delete(b"a")

    @rule(seconds=st.integers(1, 4))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def compact(self):
        self.store.compact()

    @rule(key=KEYS)
    def read(self, key):
        assert self.cached.get(key) == self.store.get(key)

    @invariant()
    def bounded(self):
        info = self.cached.cache_info()
        assert info.currsize <= info.maxsize == 20_000

    def teardown(self):
        keys = [b"a", b"b", b"c", b"none"]
        assert self.cached.get_many(keys) == self.store.get_many(keys)
        assert dict(self.cached) == dict(self.store)
        assert len(self.cached) == len(self.store)
        self.store.close()


CachedStoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestCachedStore = CachedStoreMachine.TestCase


def test_what_is_read_again_comes_from_memory_without_a_copy():
    with Store.in_memory() as store:
        store.put(b"k", b"v" * 100_000)
        cached = CachedStore(store)
        first = cached.get(b"k")
        assert cached.get(b"k") is first
        assert cached.get(bytearray(b"k")) is first
        assert cached.cache_info()[:2] == (2, 1)
        store.put(b"other", b"x")
        assert cached.get(b"k") is first  # only what has changed leaves
        store.put(b"k", b"new")
        assert cached.get(b"k") == b"new"


def test_deletes_that_were_forgotten_empty_it():
    with Store.in_memory(segment_bytes=4096) as store:
        for number in range(200):
            store.put(b"%d" % number, b"x" * 50)
        cached = CachedStore(store)
        assert cached.get(b"7") == b"x" * 50
        for number in range(200):
            store.delete(b"%d" % number)
        store.put(b"last", b"1")
        while store._parts.manifest.forgotten < 200:
            store.checkpoint()
            store.compact()
            store.put(b"last", b"1")
        assert cached.get(b"7") is None
        assert cached.get(b"last") == b"1"


def test_a_value_that_changes_while_it_is_read_is_not_kept(monkeypatch):
    """While one thread reads, another writes, and a third one reads again."""
    with Store.in_memory() as store:
        store.put(b"k", b"old")
        cached = CachedStore(store)
        get_entry = store.get_entry

        def slow(key):
            found = get_entry(key)
            if found.value == b"old":
                store.put(b"k", b"new")
                other.start()
                other.join()
            return found

        seen = []
        other = threading.Thread(target=lambda: seen.append(cached.get(b"k")))
        monkeypatch.setattr(store, "get_entry", slow)
        assert cached.get(b"k") == b"old"  # it began before the write
        assert seen == [b"new"]
        assert cached.get(b"k") == b"new"


def test_threads_see_every_acknowledged_write():
    with Store.in_memory() as store:
        cached, wrong = CachedStore(store), []
        shared = SimpleNamespace(written=0)
        store.put(b"k", b"0")

        def read():
            least = shared.written
            found = int(cached.get(b"k"))
            if found < least:
                wrong.append((least, found))

        with meanwhile(read, 3):
            for number in range(1, 3000):
                store.put(b"k", b"%d" % number)
                shared.written = number
        assert wrong == []


def test_writes_of_another_process_are_seen_at_once(tmp_path):
    with Store(tmp_path / "s", durability="os") as store:
        store.put(b"k", b"0")
        code = """
import sys, kvengine
with kvengine.Store(sys.argv[1], read_only=True) as store:
    cached = kvengine.CachedStore(store)
    for line in sys.stdin:
        value = cached[b"k"]
        hits = cached.cache_info().hits
        assert cached[b"k"] is value and cached.cache_info().hits == hits + 1
        print(value.decode(), flush=True)
"""
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "s")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as reader:  # fmt: skip
            for number in range(300):
                store.put(b"k", b"%d" % number)
                reader.stdin.write("\n")
                reader.stdin.flush()
                assert reader.stdout.readline() == f"{number}\n"
            reader.stdin.close()
        assert reader.returncode == 0


def test_bad_calls():
    store = Store.in_memory()
    cached = CachedStore(store)
    with pytest.raises(InvalidType, match="a CachedStore needs a Store, not dict"):
        CachedStore({})
    with pytest.raises(InvalidRequest, match="memory_bytes must be a number of at least 0"):
        CachedStore(store, memory_bytes=-1)
    with pytest.raises(InvalidType, match="a key must be bytes, not str"):
        cached.get("k")
    with pytest.raises(InvalidRequest, match="1 to 1024 bytes"):
        cached.get(b"")
    with pytest.raises(KeyNotFound, match="b'k' is not in the store"):
        cached[b"k"]
    cached[b"k"] = b"v"
    del cached[b"k"]
    with pytest.raises(KeyNotFound):
        del cached[b"k"]
    assert cached.get(b"k", b"none") == b"none"
    assert repr(cached).startswith("<kvengine.CachedStore of <")
    store.close()
    with pytest.raises(StoreClosed):
        cached.get(b"k")


def test_a_read_from_a_finalizer_or_a_signal_while_changes_are_taken_in_does_not_hang():
    program = """
import faulthandler, gc, os, signal, sys
import kvengine
faulthandler.dump_traceback_later(60, exit=True)
gc.set_threshold(1)
store = kvengine.Store.in_memory()
cached = kvengine.CachedStore(store)
seen = []

class Session:
    def __init__(self): self.me = self
    def __del__(self): seen.append(cached.get(b"k"))

signal.signal(signal.SIGPROF, lambda *_: seen.append(cached.get(b"k")))
signal.setitimer(signal.ITIMER_PROF, 0.002, 0.002)
for number in range(2000):
    Session()
    value = b"%d" % number
    store.put(b"k", value)
    store.put(b"other", value)
    Session()
    assert cached.get(b"k") == value
signal.setitimer(signal.ITIMER_PROF, 0, 0)
assert len(seen) > 1000
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_changes_in_the_last_moment_before_a_value_is_kept_is_not_kept(monkeypatch):
    with Store.in_memory() as store:
        store.put(b"k", b"old")
        cached = CachedStore(store)
        get_entry, told = store.get_entry, []

        def meddled(key):
            found = get_entry(key)
            if not told:
                told.append(1)
                store.put(b"k", b"new")
                assert cached.get(b"k") == b"new"  # takes the change in
            return found

        monkeypatch.setattr(store, "get_entry", meddled)
        assert cached.get(b"k") == b"old"  # it began before the write
        assert cached.get(b"k") == b"new"
