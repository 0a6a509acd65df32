"""A store does what a dict would do, through compaction, restarts, kills and backups."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvengine import KvError, LogCompacted, Store
from kvengine.engine.jobs import maintenance
from kvengine.entry import Change
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock
from kvengine.testing.model import Model

MEMORY = Path("/dev/shm")
TINY = {"segment_bytes": 4096, "key_buffer_entries": 16, "checkpoint_records": 50}
NAMES = [b"\0", b"a", b"a\0", b"ab", b"a" * 1024, b"b", b"\xfe\xff", b"\xff", b"\xff\xff"]

keys = st.sampled_from(NAMES) | st.integers(0, 99).map(lambda n: b"key-%02d" % n)
odd_keys = keys | st.sampled_from([b"", b"x" * 1025, "a", 5, None, bytearray(b"a")])
values = st.binary(max_size=40) | st.sampled_from([0, 100, 1000, 4096, 4097, 9000]).map(
    lambda size: b"v" * size
)
prefixes = st.sampled_from([b"", b"a", b"a\0", b"key-", b"key-1", b"\xff", b"nothing"])
lifetimes = st.none() | st.sampled_from([-1, 0, 0.5, 1, 10, 1000, float("nan"), float("inf")])


def outcome(call, *arguments, **options):
    """Return what a call gave: a result, or an error as far as it can be compared."""
    try:
        result = call(*arguments, **options)
    except KvError as error:
        return type(error), vars(error) if type(error).__name__ == "VersionConflict" else None
    return list(result) if hasattr(result, "__next__") else result


class StoreMachine(RuleBasedStateMachine):
    """Every rule does the same to a store and to the model, and compares what they answer."""

    memory = False

    def __init__(self):
        super().__init__()
        memory = MEMORY if MEMORY.is_dir() else None  # syncs cost nothing there
        self.folder = Path(tempfile.mkdtemp(prefix="kvengine-model-", dir=memory))
        self.clock = ManualClock()
        self.model = Model(self.clock)
        self.needed = None
        self.compacted = False  # since then the log may be shorter than history

    @initialize(compaction=st.sampled_from(["manual", "auto"]), consumer=st.booleans())
    def begin(self, compaction, consumer):
        self.options = {**TINY, "clock": self.clock, "compaction": compaction, "durability": "os"}
        self.compacted = compaction == "auto"
        if consumer:
            self.needed = 0
            self.options["oldest_needed"] = lambda: self.needed
        if self.memory:
            self.store = Store.in_memory(**self.options)
        else:
            self.store = Store(self.folder / "store", **self.options)

    def teardown(self):
        if hasattr(self, "store"):
            self.compare_all(self.store)
            self.store.close()
        shutil.rmtree(self.folder)

    def both(self, method, *arguments, **options):
        expected = outcome(getattr(self.model, method), *arguments, **options)
        assert outcome(getattr(self.store, method), *arguments, **options) == expected
        return expected

    def compare_all(self, store):
        """Compare everything, even what the model can't know: the insides of the store."""
        assert store.version == self.model.version
        assert list(store.scan()) == list(self.model.scan())
        check_store(store)
        self.compare_tail(store, 0)

    def compare_tail(self, store, after):
        with store._parts.jobs:
            forgotten = store._parts.manifest.forgotten
            changes = list(store.tail(after))
        allowed = {c.version: c for c in self.model.history}
        now = self.clock.time()
        for change in changes:
            original = allowed[change.version]
            expired = original.expires_at is not None and original.expires_at <= now
            buried = Change(change.version, "delete", original.key, b"", b"", None)
            assert change == original or (expired and change == buried)
        found = [change.version for change in changes]
        assert found == sorted(set(found))
        assert not found or found[0] > after
        missing = {c.version: c for c in self.model.tail(after)}.keys() - set(found)
        for version in missing:
            gone = allowed[version]
            assert gone.kind == "delete" or (gone.expires_at or now + 1) <= now
            assert version <= forgotten
        if not self.compacted:
            assert changes == self.model.history[after:]

    # -- changes

    @rule(key=odd_keys, value=values, metadata=st.binary(max_size=9), lifetime=lifetimes)
    def put(self, key, value, metadata, lifetime):
        expires_at = None if lifetime is None else self.clock.time() + lifetime
        self.both("put", key, value, metadata=metadata, expires_at=expires_at)

    @rule(start=st.integers(0, 99), count=st.integers(1, 40), value=values, lifetime=lifetimes)
    def put_many(self, start, count, value, lifetime):
        expires_at = None if lifetime is None else self.clock.time() + lifetime
        for number in range(start, start + count):
            self.both("put", b"key-%02d" % (number % 100), value, expires_at=expires_at)

    @rule(key=odd_keys)
    def delete(self, key):
        self.both("delete", key)

    @rule(start=st.integers(0, 99), count=st.integers(1, 40))
    def delete_many(self, start, count):
        for number in range(start, start + count):
            self.both("delete", b"key-%02d" % (number % 100))

    @rule(key=keys, value=values, wrong=st.sampled_from([None, 0, 1, 10**9, -1, True, "1"]))
    def put_if_version(self, key, value, wrong):
        entry = self.model.get_entry(key)
        version = wrong if wrong is not None else entry.version if entry else 0
        self.both("put", key, value, if_version=version)

    @rule(key=keys, wrong=st.sampled_from([None, 0, 1, 10**9, -1, False]))
    def delete_if_version(self, key, wrong):
        entry = self.model.get_entry(key)
        version = wrong if wrong is not None else entry.version if entry else 0
        self.both("delete", key, if_version=version)

    @rule(
        changes=st.lists(st.tuples(keys, st.none() | values, lifetimes), max_size=12),
        fails=st.sampled_from([False, False, False, True]),
    )
    def batch(self, changes, fails):
        seen = []
        for store in (self.model, self.store):
            batch, errors = store.batch(), []
            with suppress(ZeroDivisionError), batch:
                for key, value, lifetime in changes:
                    moment = None if lifetime is None else self.clock.time() + lifetime
                    if value is None:
                        batch.delete(key)
                    else:
                        errors.append(outcome(batch.put, key, value, expires_at=moment))
                if fails:
                    raise ZeroDivisionError
            seen.append((errors, len(batch), batch.version, store.version))
        assert seen[0] == seen[1]

    # -- reads

    @rule(key=odd_keys)
    def get(self, key):
        value = self.both("get", key, b"other")
        self.both("get_entry", key)
        self.both("__contains__", key)
        self.both("__getitem__", key)
        view = outcome(self.store.get_view, key)
        if isinstance(view, memoryview):
            assert view == value
            view.release()
        else:
            assert view == (None if value == b"other" else value)

    @rule(names=st.lists(keys, max_size=150))
    def get_many(self, names):
        self.both("get_many", names)

    @rule(
        prefix=prefixes,
        start_after=st.none() | keys,
        limit=st.none() | st.integers(-1, 50),
        reverse=st.booleans(),
    )
    def scan(self, prefix, start_after, limit, reverse):
        options = {"start_after": start_after, "limit": limit, "reverse": reverse}
        self.both("scan", prefix, **options)
        self.both("keys", prefix, **options)

    @rule(share=st.floats(0, 1))
    def tail(self, share):
        after = int(self.model.version * share)
        forgotten = self.store._parts.manifest.forgotten
        assert forgotten <= self.model.version
        try:
            self.compare_tail(self.store, after)
        except LogCompacted as error:
            # The background thread may have gone on between the two looks.
            assert 0 < after < error.oldest <= self.store._parts.manifest.forgotten
            assert forgotten <= error.oldest

    @invariant()
    def same_size(self):
        if hasattr(self, "store"):
            self.both("__len__")
            assert self.store.version == self.model.version

    # -- time and background work

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 9, 1000]))
    def advance(self, seconds):
        self.clock.advance(seconds)

    @precondition(lambda self: self.needed is not None)
    @rule(share=st.floats(0, 1))
    def consume(self, share):
        """A consumer of the log has got further; what it still needs is there to the last."""
        assert self.store._parts.manifest.forgotten <= self.needed
        if self.needed:
            self.compare_tail(self.store, self.needed)
        self.needed += int((self.model.version - self.needed) * share)

    @rule()
    def compact(self):
        self.compacted = True
        self.store.compact()
        self.compare_all(self.store)

    @rule()
    def checkpoint(self):
        self.store.checkpoint()
        self.compare_all(self.store)

    @rule()
    def work(self):
        self.store._parts.maintenance.run(lambda: maintenance.work(self.store._parts))
        self.compare_all(self.store)

    @precondition(lambda self: not self.memory)
    @rule(rebuild=st.booleans())
    def reopen(self, rebuild):
        self.store.close()
        self.store = Store(self.folder / "store", rebuild=rebuild, **self.options)
        self.compare_all(self.store)

    # -- copies

    def compare_copy(self, path, *, go_on, **options):
        with Store(path, **{**self.options, **options}) as copy:
            self.compare_all(copy)
            if go_on:  # a copy is a store like any other
                version = copy.put(b"more", b"after all")
                assert version == self.model.version + 1
                assert copy.get(b"more") == b"after all"
                copy.delete(b"more")
                copy.compact()
                assert list(copy.scan()) == [e for e in self.model.scan() if e.key != b"more"]
                check_store(copy)
        shutil.rmtree(path)

    @precondition(lambda self: not self.memory)
    @rule(rebuild=st.booleans(), go_on=st.booleans())
    def kill(self, rebuild, go_on):
        """What lies in the folder while the store is open is what kill -9 would leave."""
        with self.store._parts.jobs:
            shutil.copytree(self.folder / "store", self.folder / "killed")
        self.compare_copy(self.folder / "killed", rebuild=rebuild, go_on=go_on)

    @rule(rebuild=st.booleans(), go_on=st.booleans())
    def backup(self, rebuild, go_on):
        assert self.store.backup(self.folder / "backup") == self.model.version
        self.compare_copy(self.folder / "backup", rebuild=rebuild, go_on=go_on)

    @precondition(lambda self: not self.memory)
    @rule()
    def read_beside(self):
        with Store(self.folder / "store", read_only=True, clock=self.clock) as reader:
            assert reader.version == self.model.version
            assert list(reader.scan()) == list(self.model.scan())
            self.store.put(b"beside", b"a new value")
            self.model.put(b"beside", b"a new value")
            assert reader.get_entry(b"beside") == self.model.get_entry(b"beside")
            assert list(reader.keys()) == list(self.model.keys())


class MemoryMachine(StoreMachine):
    """The same in memory."""

    memory = True


@pytest.mark.parametrize(("machine", "examples"), [(StoreMachine, 60), (MemoryMachine, 30)])
def test_store_does_what_the_model_does(machine, examples):
    examples = min(examples, settings().max_examples)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=40)
    )
