"""find_difference() gives exactly the keys in which two stores differ, and little is exchanged."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import Change, InvalidRequest, Store
from kvengine.engine.following import replica
from kvengine.engine.log.manifest import Origin
from kvengine.replication.difference import find_difference
from kvengine.replication.follower import Follower
from kvengine.replication.frozen import FrozenStore, Snapshot
from kvengine.replication.local_source import LocalSource
from kvengine.replication.selection import KeyRange, select
from tests.replication.store_source import StoreSource


def holding(changes):
    store = Store.in_memory()
    replica.begin(store._parts, Origin("", 0))
    store._parts.apply(tuple(changes))
    return store


class Counting(FrozenStore):
    def __init__(self, store):
        super().__init__(store)
        self.calls = self.answers = 0

    def digests(self, ranges, moment):
        self.calls += 1
        self.answers += len(ranges)
        return super().digests(ranges, moment)


def put(version, key, value=b"v", expires_at=None):
    return Change(version, "put", key, value, b"", expires_at)


KEYS = st.binary(min_size=1, max_size=3)
RECORDS = st.dictionaries(KEYS, st.tuples(st.booleans(), st.sampled_from([None, 5.0, 1e12])))


@settings(deadline=None, max_examples=150)
@given(RECORDS, st.dictionaries(KEYS, st.sampled_from(["value", "version", "missing", "more"])))
def test_exactly_what_differs_is_found(records, changed):
    versions = {key: 3 * number for number, key in enumerate(sorted({*records, *changed}), 1)}
    mine, its, wanted = [], [], set()
    for key, version in sorted(versions.items(), key=lambda item: item[1]):
        expires_at = records[key][1] if key in records else None
        how = changed.get(key)
        if expires_at != 5.0 and how:
            wanted.add(key)
        if how != "more":
            mine.append(put(version, key, expires_at=expires_at))
        if how != "missing":
            value = b"w" if how == "value" else b"v"
            its.append(put(version + (how == "version"), key, value, expires_at))
    with holding(mine) as one, holding(its) as other:
        for left, right in ((one, other), (other, one)):
            found = find_difference(FrozenStore(left), FrozenStore(right), moment=10, limit=10_000)
            assert found == [KeyRange(key, key + b"\0") for key in sorted(wanted)]


def test_little_is_exchanged():
    changes = [put(number, b"%06d" % number) for number in range(1, 20_001)]
    other = list(changes)
    other[7000] = put(7001, b"007001", b"flipped")
    with holding(changes) as one, holding(other) as two:
        mine, its = Counting(one), Counting(two)
        assert find_difference(mine, its, moment=0) == [KeyRange(b"007001", b"007001\0")]
        assert its.calls < 8
        assert its.answers < 100
        equal = Counting(one)
        assert find_difference(mine, equal, moment=0) == []
        assert equal.answers == 1


def test_the_search_ends_when_enough_is_found():
    with holding(put(number, b"%03d" % number) for number in range(1, 500)) as one:
        empty = FrozenStore(Store.in_memory())
        found = find_difference(FrozenStore(one), empty, moment=0, limit=7)
    assert found == [KeyRange(b"%03d" % number, b"%03d\0" % number) for number in range(1, 8)]


def test_a_store_that_goes_on_is_refused():
    with Store.in_memory() as store:
        side = FrozenStore(store)
        store.put(b"a", b"1")
        with pytest.raises(InvalidRequest, match="snapshot"):
            side.digests([KeyRange(b"", None)], 0)


def test_selections_as_ranges():
    chosen = select([b"b", b"a\xff\xff", b"bc", b"\xff"], [b"c", b"b1"])
    assert tuple(chosen) == ((b"a\xff\xff", b"b", b"\xff"), (b"c",))
    assert chosen.ranges() == (
        (b"a\xff\xff", b"b"),
        (b"b", b"c"),
        (b"c", b"c\0"),
        (b"\xff", None),
    )
    assert select(None).ranges() == ((b"", None),)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("prefixes", [None, [b"key 1", b"b"]])
def test_a_follower_proves_that_it_equals_a_busy_source(background, prefixes):
    with Store.in_memory() as source:
        stopping = threading.Event()

        def write():
            while not stopping.is_set():
                number = source.version
                source.put(b"key %d" % (number % 1000), b"%d" % number)
                if number % 5 == 0:
                    source.delete(b"key %d" % (number % 77))

        thread = threading.Thread(target=write)
        thread.start()
        options = {"background": background, "prefixes": prefixes}
        try:
            with Follower(LocalSource(source), **options) as follower:
                for _ in range(5):
                    assert follower.differences() == []
                stopping.set()
                thread.join()
                follower.catch_up()
                store = follower.store
                store._parts.apply((put(follower.position + 1, b"key 1", b"wrong"),))
                store._parts.apply((put(follower.position + 2, b"beside", b"wrong"),))
                with Snapshot(source) as view:
                    keys = [among.start for among in follower.differences(view)]
                assert keys == [b"beside", b"key 1"]
        finally:
            stopping.set()
            thread.join()


def test_a_view_that_is_older_is_refused():
    with Store.in_memory() as source:
        source.put(b"a", b"1")
        with Snapshot(source) as view, Follower(StoreSource(source), background=False) as follower:
            source.put(b"a", b"2")
            follower.catch_up()
            with pytest.raises(InvalidRequest, match="newer view"):
                follower.differences(view)
