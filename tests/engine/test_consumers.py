"""Consumers: at least once, in order, nothing left out; or told that something is gone."""

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvengine import (
    ChangesGone,
    ConsumerTaken,
    CorruptData,
    Database,
    InvalidRequest,
    InvalidType,
    Store,
    StoreClosed,
)
from kvengine.engine import positions
from kvengine.engine.hash import xxh3_64
from kvengine.engine.positions import Position
from kvengine.errors import StorageError
from kvengine.testing.clock import ManualClock

DAY_S = 86400.0
KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])


class ConsumerMachine(RuleBasedStateMachine):
    """A store, and a consumer that builds a copy of it, and dies now and then."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        options = {"segment_bytes": 4096, "compaction": "manual", "clock": self.clock}
        self.store = Store.in_memory(retention_s=10.0, **options)
        self.consumer = self.store.consumer("copy")
        self.copy = {}

    @rule(key=KEYS, value=st.binary(max_size=30))
    def put(self, key, value):
        self.store.put(key, value)

    @rule(key=KEYS)
    def delete(self, key):
        self.store.delete(key)

    @rule()
    def fill_a_segment(self):
        self.store.put(b"large", b"x" * 4000)

    @rule()
    def compact(self):
        self.store.checkpoint()
        self.store.compact()

    @rule(seconds=st.integers(1, 6))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(most=st.integers(1, 9), acknowledges=st.booleans())
    def consume(self, most, acknowledges):
        try:
            for number, change in enumerate(self.consumer.changes()):
                if number == most:
                    break
                self.apply(change)
                if acknowledges:
                    self.consumer.acknowledge(change.version)
        except ChangesGone:
            self.copy.clear()
            self.consumer.restart()

    @rule(size=st.integers(1, 5))
    def consume_all(self, size):
        try:
            for batch in self.consumer.batches(size):
                assert 1 <= len(batch) <= size
                for change in batch:
                    self.apply(change)
                self.consumer.acknowledge()
            self.consumer.acknowledge()  # also what was not shown: it is no more
        except ChangesGone:
            self.copy.clear()
            self.consumer.restart()
            self.consume_all(size)
            return
        assert self.copy == dict(self.store)
        assert self.consumer.lag == 0

    def apply(self, change):
        if change.kind == "put":
            self.copy[change.key] = change.value
        else:
            self.copy.pop(change.key, None)

    @rule()
    def die(self):
        self.consumer = self.store.consumer("copy")

    @invariant()
    def only_what_was_given_out_is_acknowledged(self):
        assert self.consumer.position <= self.store.version
        assert self.consumer.lag == self.store.version - self.consumer.position

    def teardown(self):
        self.consume_all(3)
        self.store.close()


ConsumerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestConsumers = ConsumerMachine.TestCase


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(tmp_path, clock):
    options = {"segment_bytes": 4096, "compaction": "manual", "durability": "os"}
    with Store(tmp_path / "s", clock=clock, **options) as opened:
        yield opened


def forget_deletes(store):
    """Delete a key, and compact until that is forgotten, if it may be."""
    store.put(b"victim", b"x")
    store.delete(b"victim")
    for _ in range(4):
        store.put(b"filler", b"x" * 4096)
        store.checkpoint()
        store.compact()
    return store.manifest.forgotten


def test_what_was_not_acknowledged_comes_again(store):
    consumer = store.consumer("c")
    versions = [store.put(b"%d" % number, b"v") for number in range(10)]
    seen = []
    for change in consumer.changes():
        seen.append(change.version)
        if len(seen) == 4:
            consumer.acknowledge(seen[2])
            break
    assert [change.version for change in consumer.changes()] == versions[3:]
    assert [change.version for change in store.consumer("c").changes()] == versions[3:]
    assert store.consumer("other").position == 0


def test_batches_follow_and_end(store):
    consumer = store.consumer("c")
    for number in range(10):
        store.put(b"%d" % number, b"v")
    found = [[change.version for change in batch] for batch in consumer.batches(4)]
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    sizes = [len(batch) for batch in consumer.batches(4, follow=True, timeout=0)]
    assert sizes == [4, 4, 2]
    assert len(list(consumer.changes(follow=True, timeout=0))) == 10
    consumer.acknowledge()
    assert list(consumer.batches()) == []
    assert (consumer.position, consumer.lag) == (10, 0)


def test_deletes_are_kept_for_a_consumer_and_not_for_ever(store, clock):
    consumer = store.consumer("slow")
    store.put(b"first", b"1")
    assert len(list(consumer.changes())) == 1
    consumer.acknowledge()
    assert forget_deletes(store) == 0
    clock.advance(7 * DAY_S - 1)
    assert forget_deletes(store) == 0
    clock.advance(2)
    forgotten = forget_deletes(store)
    assert forgotten > 1
    with pytest.raises(ChangesGone) as caught:
        list(consumer.changes())
    assert "restart() begins again" in caught.value.__notes__[0]
    consumer.restart()
    assert {c.key: c.value for c in consumer.changes()} == dict(store)


def test_who_was_given_something_and_acknowledged_nothing_is_told_too(store, clock):
    store.put(b"victim", b"0")
    consumer = store.consumer("c")
    assert [change.key for change in consumer.changes()] == [b"victim"]
    assert forget_deletes(store) == 0
    clock.advance(8 * DAY_S)
    assert forget_deletes(store) > 0
    with pytest.raises(ChangesGone):
        list(store.consumer("c").changes())


def test_a_new_consumer_needs_nothing_that_was_deleted_before(store):
    assert forget_deletes(store) > 0
    assert {c.key: c.value for c in store.consumer("new").changes()} == dict(store)


def test_a_consumer_that_was_removed_holds_nothing_back(store):
    consumer = store.consumer("c")
    list(consumer.changes())
    assert forget_deletes(store) == 0
    consumer.remove()
    assert store.consumers() == []
    assert forget_deletes(store) > 0
    with pytest.raises(ConsumerTaken, match="'c' was removed meanwhile"):
        consumer.acknowledge(0) or consumer.restart()


def test_the_last_one_who_takes_it_up_has_it(store, tmp_path):
    first = store.consumer("c")
    store.put(b"k", b"v")
    list(first.changes())
    with Store(tmp_path / "s", read_only=True) as reader:
        second = reader.consumer("c")
        with pytest.raises(ConsumerTaken, match="was taken up by another reader"):
            first.acknowledge()
        list(second.changes())
        second.acknowledge()
        assert store.consumers()[0][:3] == ("c", 1, 0)


def test_infos(store, clock):
    for name in ("b", "a"):
        store.consumer(name)
    store.put(b"k", b"v")
    clock.advance(5)
    consumer = store.consumer("a")
    list(consumer.changes())
    consumer.acknowledge()
    now = clock.time()
    assert store.consumers() == [("a", 1, 0, now), ("b", 0, 1, now - 5)]


CONSUME = """
import sys, kvengine
with kvengine.Store(sys.argv[1], read_only=True) as store:
    consumer = store.consumer("c")
    for change in consumer.changes(follow=True):
        print(change.version, flush=True)
        consumer.acknowledge(change.version)
"""


def test_a_consumer_that_is_killed_goes_on_where_it_was(store, tmp_path):
    written, seen = 0, []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", CONSUME, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
        ) as process:
            for _ in range(20):
                written = store.put(b"k%d" % written, b"v")
                seen.append(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
    assert sorted(set(seen)) == list(range(1, max(seen) + 1))
    rest = [change.version for change in store.consumer("c").changes()]
    assert rest == list(range(rest[0], written + 1)) if rest else max(seen) == written
    assert (rest or [written + 1])[0] <= max(seen) + 1


def test_of_a_database(tmp_path):
    with Database.in_memory() as db:
        kv, other = db.namespace("n"), db.namespace("other")
        consumer = db.consumer("c")
        kv.put("a", "1")
        other.put("b", "2")
        found = list(consumer.changes())
        assert [(c.namespace_id, c.name, c.value) for c in found] == [
            (kv.id, "a", b"1"),
            (other.id, "b", b"2"),
        ]
        consumer.acknowledge()
        assert db.consumers()[0].lag == 0
        db.delete("other")
        kv.put("c", "3")
        assert [c.name for batch in consumer.batches() for c in batch] == ["c"]
        with db.snapshot() as frozen, pytest.raises(InvalidRequest, match="a snapshot has no"):
            frozen.consumer("c")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "x" * 101, "a b", "é"])
def test_names(store, name):
    with pytest.raises(InvalidRequest, match="1 to 100 letters"):
        store.consumer(name)
    with pytest.raises(InvalidType, match="must be a str, not bytes"):
        store.consumer(b"c")


def test_bad_calls(store):
    consumer = store.consumer("c")
    store.put(b"k", b"v")
    with pytest.raises(InvalidRequest, match="version 1 can't be acknowledged: 'c' was given"):
        consumer.acknowledge(1)
    for version in (-1, True, "1"):
        with pytest.raises(InvalidRequest, match="version must be that of a change"):
            consumer.acknowledge(version)
    for size in (0, -1, True, 1.5):
        with pytest.raises(InvalidRequest, match="size must be a number from 1 on"):
            next(consumer.batches(size))
    with pytest.raises(InvalidRequest, match="retention_s must be between"):
        Store.in_memory(retention_s=-1)
    store.close()
    with pytest.raises(StoreClosed):
        next(consumer.changes())
    with pytest.raises(StoreClosed):
        consumer.restart()


def test_every_damaged_byte_is_an_error_and_holds_deletes_back(store, tmp_path):
    consumer = store.consumer("c")
    list(consumer.changes())
    file = tmp_path / "s" / "c.consumer"
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorruptData, match="remove the file and it begins anew"):
            store.consumer("c")
        file.write_bytes(whole[:place])
        with pytest.raises(CorruptData, match=r"c\.consumer"):
            store.consumers()
    assert forget_deletes(store) == 0
    file.unlink()
    assert store.consumer("c").position == 0


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"format":2}', b'{"format":1}', b'{"format":1,"what":2}', b"{"]
)
def test_other_texts_are_damage(body):
    data = body + b"\n%016x\n" % xxh3_64(body)
    with pytest.raises(CorruptData):
        positions.decode(data, "c.consumer")


def test_a_position_comes_back():
    position = Position("c", 3, True, 2, 1.5, "me")
    assert positions.decode(positions.encode(position), "f") == position
    assert json.loads(positions.encode(position).splitlines()[0])["position"] == 3


def test_a_position_that_can_not_be_written_is_an_error_and_does_not_count(store, monkeypatch):
    consumer = store.consumer("c")
    store.put(b"k", b"v")
    list(consumer.changes())

    def refuse(name, data, *, durable=True):
        raise StorageError(28, "no space left", name)

    monkeypatch.setattr(store.directory, "replace", refuse)
    with pytest.raises(StorageError):
        consumer.acknowledge()
    assert consumer.position == 0
    monkeypatch.undo()
    assert len(list(consumer.changes())) == 1


def test_a_backup_has_no_consumers_and_a_start_leaves_theirs_alone(store, tmp_path):
    consumer = store.consumer("c")
    store.put(b"k", b"v")
    list(consumer.changes())
    consumer.acknowledge()
    store.backup(tmp_path / "copy")
    with Store(tmp_path / "copy") as copy:
        assert copy.consumers() == []
    store.close()
    (tmp_path / "s" / "d.consumer.tmp").write_bytes(b"half")
    with Store(tmp_path / "s") as again:
        assert [info.name for info in again.consumers()] == ["c"]
        assert again.consumer("c").position == 1
        assert again.verify().files >= 1
    assert "c.consumer" in os.listdir(tmp_path / "s")
