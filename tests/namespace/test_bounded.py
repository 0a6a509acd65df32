"""A namespace with bounds: what it holds after each write, and which keys go."""

import io
import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvengine import Database, InvalidRequest, InvalidType, LimitExceeded, price
from kvengine.namespace import bounds
from kvengine.testing.clock import ManualClock

KEYS = [f"{prefix}{number}" for prefix in ("a", "b/", "ü" * 9) for number in range(9)]


def bounded(db, eviction="lru", **bounds):
    db.create_namespace("bounded", eviction=eviction, **bounds)
    return db.namespace("bounded")


def names(kv):
    return [info.name for info in kv.keys()]  # noqa: SIM118 (not those of a dict)


def size_of(key, value):
    return len(key.encode()) + len(value)


class BoundedMachine(RuleBasedStateMachine):
    """A bounded namespace next to a dict of everything that was ever written to it."""

    @initialize(
        max_keys=st.sampled_from([None, 1, 2, 5, 20]),
        max_bytes=st.sampled_from([None, 120, 400]),
        eviction=st.sampled_from(["lru", "lfu"]),
        sample=st.sampled_from([bounds.SAMPLE_KEYS, 4]),
    )
    def start(self, max_keys, max_bytes, eviction, sample):
        self.clock, self.model = ManualClock(1000.0), {}
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(bounds, "SAMPLE_KEYS", sample)  # few: not all keys are looked at
        self.db = Database.in_memory(clock=self.clock, key_buffer_entries=16)
        self.kv = bounded(self.db, eviction, max_keys=max_keys, max_bytes=max_bytes)
        self.max_keys, self.max_bytes = max_keys or 10**9, max_bytes or 10**9

    def wrote(self, key, value, ttl=None):
        self.model[key] = value, None if ttl is None else self.clock.time() + ttl
        assert self.kv.get(key) == value  # a write evicts others

    @rule(
        key=st.sampled_from(KEYS),
        size=st.integers(0, 130),
        ttl=st.sampled_from([None, None, 0.5, 30]),
    )
    def put(self, key, size, ttl):
        value = "v" * size
        if size_of(key, value) > self.max_bytes:
            before = self.db.version
            with pytest.raises(LimitExceeded, match="holds at most"):
                self.kv.put(key, value, expiration_ttl=ttl)
            assert self.db.version == before
        else:
            self.kv.put(key, value, expiration_ttl=ttl)
            self.wrote(key, value, ttl)

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
    def put_many(self, keys):
        self.kv.put_many(dict.fromkeys(keys, "many"))
        self.model.update((key, ("many", None)) for key in keys)
        self.wrote(keys[-1], "many")

    @rule(key=st.sampled_from(KEYS))
    def add(self, key):
        value = self.kv.get_or_set(key, lambda: "made")
        if value == "made":
            self.wrote(key, value, None)

    @rule(key=st.sampled_from(KEYS))
    def get(self, key):
        self.kv.get(key)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=5))
    def get_many(self, keys):
        self.kv.get_many(keys)

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key):
        self.kv.delete(key)
        self.model.pop(key, None)

    @rule(seconds=st.sampled_from([0.5, 10, 40]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def it_is_within_its_bounds(self):
        size = self.kv.size()
        assert size.keys <= self.max_keys
        assert size.bytes <= self.max_bytes
        found = {info.name: self.kv.get(info.name) for info in self.kv.keys()}  # noqa: SIM118
        assert len(found) == size.keys
        for key, value in found.items():
            written, end = self.model[key]
            assert value == written
            assert end is None or self.clock.time() < end

    def teardown(self):
        if hasattr(self, "db"):
            self.patch.undo()
            self.db.close()


BoundedMachine.TestCase.settings = settings(stateful_step_count=30, max_examples=60)
TestBounded = BoundedMachine.TestCase


def test_the_least_recently_used_keys_go(db):
    kv = bounded(db, max_keys=4)
    for key in "abcd":
        kv[key] = "1"
    assert kv.get("a") == "1"
    assert "b" in kv
    kv["e"] = "1"
    assert names(kv) == ["a", "b", "d", "e"]
    assert kv.get_many(["d", "x"]) == {"d": "1", "x": None}
    kv.increment("n")
    assert names(kv) == ["b", "d", "e", "n"]
    assert kv.get_with_metadata("b").value == "1"
    kv["e"] = "2"
    kv["f"] = "1"
    assert names(kv) == ["b", "e", "f", "n"]


def test_the_least_frequently_used_keys_go(db):
    kv = bounded(db, "lfu", max_keys=3)
    for key in "abc":
        kv[key] = "1"
    for _ in range(20):
        assert kv["a"] == kv["c"] == "1"
    kv["d"] = "1"
    assert names(kv) == ["a", "c", "d"]
    kv["e"] = "1"
    assert names(kv) == ["a", "c", "e"]


def test_bytes_are_those_of_keys_values_and_metadata(db):
    kv = bounded(db, max_bytes=30)
    kv.put("a", "x" * 9)
    kv.put("b", "x" * 9)
    kv.put("c", "x" * 3, metadata=[1234])
    assert kv.size() == (3, 30)
    kv.put("d", "x" * 9)
    assert names(kv) == ["b", "c", "d"]
    kv.put("e", "x" * 29)
    assert names(kv) == ["e"]


def test_expired_keys_count_for_nothing(db, clock):
    kv = bounded(db, max_keys=2)
    kv["old"] = "1"
    kv.put("short", "1", expiration_ttl=5)
    clock.advance(10)
    kv["new"] = "1"
    assert names(kv) == ["new", "old"]
    assert kv._meter.evictions == 0


def test_a_key_that_does_not_fit_is_refused(db):
    kv = bounded(db, max_bytes=100)
    kv["a"] = "1"
    text = (
        "the namespace holds at most 100 bytes; this key, its value and its metadata have 101 "
        "together"
    )
    version = db.version
    with pytest.raises(LimitExceeded) as caught:
        kv.put("b", b"x" * 95, metadata="abc")
    assert (str(caught.value), caught.value.status) == (text, 413)
    with pytest.raises(LimitExceeded, match="at most 100 bytes"):
        kv.put_many({"c": "1", "b": "x" * 100})
    with pytest.raises(InvalidRequest, match=r"line 1.*at most 100 bytes"):
        kv.import_file(io.BytesIO(json.dumps({"key": "b", "value": "x" * 100}).encode()))
    with pytest.raises(LimitExceeded, match="at most 100 bytes"):
        kv.increment("n" * 100)
    assert db.version == version
    report = kv.put_many({"c": "1", "b": "x" * 100}, atomic=False)
    assert (report.successful_key_count, len(report.unsuccessful_keys)) == (1, 1)
    assert names(kv) == ["a", "c"]


@pytest.mark.parametrize("eviction", ["lru", "lfu"])
def test_many_keys_at_once_leave_the_last_ones(db, eviction):
    kv = bounded(db, eviction, max_keys=100)
    kv.put_many({f"old{number}": "1" for number in range(100)})
    report = kv.put_many({f"new{number:03}": "1" for number in range(60)})
    assert report.successful_key_count == 60
    assert sum(name.startswith("new") for name in names(kv)) == 60
    kv.put_many({f"more{number:04}": "1" for number in range(5000)})
    assert kv.size().keys <= 100
    assert "more4999" in kv
    text = "".join(json.dumps({"key": f"file{n}", "value": "1"}) + "\n" for n in range(5000))
    kv.import_file(io.BytesIO(text.encode()))
    assert kv.size().keys <= 100
    assert "file4999" in kv


def test_bounds_are_changed(db):
    info = db.create_namespace("n", max_keys=100)
    assert info[2:] == (None, 100, "lru")
    kv = db.namespace("n")
    kv.put_many({str(number): "1" for number in range(90)})
    assert db.set_bounds("n", max_keys=50, max_bytes=1000, eviction="lfu")[2:] == (1000, 50, "lfu")
    assert 45 < kv.count() <= 50  # at once
    assert db.namespaces() == [(info.id, "n", 1000, 50, "lfu")]
    assert db.rename("n", "m")[2:] == (1000, 50, "lfu")
    assert db.set_bounds(info.id)[2:] == (None, None, None)
    kv.put_many({str(number): "1" for number in range(2000)})
    assert kv.count() == 2000


def test_a_lower_bound_evicts_what_is_far_above_it(db):
    kv = db.namespace("n")
    kv.put_many({f"{number:05}": "v" * 10 for number in range(9000)})
    kv.get_many([f"{number:05}" for number in range(500)])
    db.set_bounds("n", max_bytes=15_000)
    assert 14_000 < kv.size().bytes <= 15_000


@pytest.mark.parametrize("name", ["max_bytes", "max_keys"])
@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0, InvalidRequest, "must be from 1 to"),
        (-1, InvalidRequest, "must be from 1 to"),
        (1 << 63, InvalidRequest, "must be from 1 to"),
        (True, InvalidType, "must be an int or None, not bool"),
        (1.5, InvalidType, "must be an int or None, not float"),
        ("9", InvalidType, "must be an int or None, not str"),
    ],
)
def test_bad_bounds_are_refused(db, name, value, error, text):
    db.namespace("n")
    before = db.version
    with pytest.raises(error, match=f"{name} {text}"):
        db.create_namespace("x", **{name: value})
    with pytest.raises(error, match=f"{name} {text}"):
        db.set_bounds("n", **{name: value})
    assert db.version == before


def test_an_unknown_eviction_is_refused(db):
    with pytest.raises(InvalidRequest, match="eviction must be 'lru' or 'lfu', not 'fifo'"):
        db.create_namespace("x", max_keys=1, eviction="fifo")


def test_evictions_are_counted_apart_from_deletes(db):
    kv = bounded(db, max_keys=10)
    for number in range(50):
        kv[str(number)] = "1"
    counts = db.usage("bounded").counts
    assert (counts.writes, counts.deletes, counts.evictions) == (50, 0, 40)
    assert {line.what for line in price(db.usage()).lines if line.amount} == {"base"}


def test_a_key_that_was_written_again_stays(db, monkeypatch):
    kv = bounded(db, max_keys=2)
    kv["a"] = "1"
    kv["b"] = "1"
    choose = kv._evictor._candidates

    def candidates(size):
        found = choose(size)
        monkeypatch.undo()
        kv._store.put(kv._name("a"), b"2")  # by somebody else
        return found

    monkeypatch.setattr(kv._evictor, "_candidates", candidates)
    kv["c"] = "1"
    assert kv.get_many(["a", "b", "c"]) == {"a": "2", "b": None, "c": "1"}


def test_an_interrupted_eviction_is_finished_by_the_next_write(db, monkeypatch):
    kv = bounded(db, max_keys=3)
    kv.put_many({"a": "1", "b": "1", "c": "1"})

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(kv._evictor, "_delete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kv["d"] = "1"
    assert (kv.get("d"), kv.count()) == ("1", 4)
    monkeypatch.undo()
    kv["d"] = "2"
    assert kv.count() == 3


def test_watchers_see_evictions_as_deletes(db):
    kv = bounded(db, max_keys=1)
    kv["a"] = "1"
    after = db.version
    kv["b"] = "1"
    changes = [(change.kind, change.name) for change in kv.watch(after=after, timeout=0)]
    assert changes == [("put", "b"), ("delete", "a")]


def test_what_is_memoized_is_bounded(db):
    kv = bounded(db, max_keys=5)
    calls = []

    @kv.memoize(name="square")
    def square(number):
        calls.append(number)
        return number * number

    for number in [*range(20), 19]:
        assert square(number) == number * number
    assert len(calls) == 20
    assert kv.count() == 5
