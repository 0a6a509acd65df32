"""A key is gone at the moment it expires, whatever way one asks; compaction gives its space back.

Which moments put() refuses is in test_bad_input.py.  The time is that of the store's clock alone.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import InvalidRequest, KeyNotFound, Store, VersionConflict
from kvengine.engine.jobs import maintenance
from kvengine.testing.check import check_store
from kvengine.testing.clock import START, ManualClock

OPTIONS = {
    "durability": "os",
    "segment_bytes": 4096,
    "key_buffer_entries": 16,
    "compaction": "manual",
}
END = START + 10  # when b"goes" expires


class AnyClock:
    """A clock that can go back, as that of a machine can."""

    def __init__(self):
        self.now = START

    def time(self):
        return self.now


@pytest.fixture
def clock():
    return AnyClock()


@pytest.fixture(params=["memory", "disk", "reader"])
def store(request, tmp_path, clock):
    """A store, or a reader beside one, with a key that expires among two that do not."""
    options = {**OPTIONS, "clock": clock}
    memory = request.param == "memory"
    with Store.in_memory(**options) if memory else Store(tmp_path / "s", **options) as opened:
        opened.put(b"before", b"1")
        opened.put(b"goes", b"value", metadata=b"m", expires_at=END)
        opened.put(b"later", b"3", expires_at=END + 1000)
        if request.param != "reader":
            yield opened
            return
        with Store(tmp_path / "s", read_only=True, clock=clock) as reader:
            yield reader


READS = {
    "get": (lambda s: s.get(b"goes"), b"value", None),
    "get with a default": (lambda s: s.get(b"goes", b"other"), b"value", b"other"),
    "get_many": (lambda s: s.get_many([b"before", b"goes"]), [b"1", b"value"], [b"1", None]),
    "get_entry": (
        lambda s: s.get_entry(b"goes"),
        (b"goes", b"value", b"m", END, 2),
        None,
    ),
    "get_view": (lambda s: bytes(s.get_view(b"goes") or b""), b"value", b""),
    "in": (lambda s: b"goes" in s, True, False),
    "keys": (lambda s: list(s.keys()), [b"before", b"goes", b"later"], [b"before", b"later"]),
    "keys backwards": (lambda s: list(s.keys(reverse=True, limit=2))[1], b"goes", b"before"),
    "keys with a prefix": (lambda s: list(s.keys(b"g")), [b"goes"], []),
    "keys from a place": (
        lambda s: list(s.keys(start_after=b"before", limit=1)),
        [b"goes"],
        [b"later"],
    ),
    "in keys": (lambda s: b"goes" in s.keys(), True, False),  # noqa: SIM118
    "len of keys": (lambda s: len(s.keys()), 3, 2),
    "scan": (
        lambda s: [entry.value for entry in s.scan()],
        [b"1", b"value", b"3"],
        [b"1", b"3"],
    ),
    "iter": (lambda s: list(iter(s)), [b"before", b"goes", b"later"], [b"before", b"later"]),
    "items": (lambda s: dict(s.items()).get(b"goes"), b"value", None),
    "values": (lambda s: list(s.values()), [b"1", b"value", b"3"], [b"1", b"3"]),
    "len": (len, 3, 2),
    "dict": (lambda s: len(dict(s)), 3, 2),
}


@pytest.mark.parametrize("name", READS)
def test_a_key_is_there_until_the_moment_and_gone_from_it_on(store, clock, name):
    read, there, gone = READS[name]
    for now, expected in (
        (START, there),
        (math.nextafter(END, 0), there),
        (END, gone),
        (math.nextafter(END, math.inf), gone),
        (END + 999, gone),
    ):
        clock.now = now
        assert read(store) == expected, now


def test_an_item_is_gone(store, clock):
    assert store[b"goes"] == b"value"
    clock.now = END
    with pytest.raises(KeyNotFound):
        store[b"goes"]
    assert store[b"later"] == b"3"
    clock.now = END + 1000
    assert list(store) == [b"before"]
    assert store


@given(
    lifetimes=st.dictionaries(
        st.integers(0, 99).map(lambda n: b"%02d" % n),
        st.none() | st.floats(0.001, 100),
        max_size=40,
    ),
    seconds=st.floats(0, 110),
    compacted=st.booleans(),
)
def test_every_way_of_reading_agrees(lifetimes, seconds, compacted):
    clock = ManualClock()
    with Store.in_memory(**OPTIONS, clock=clock) as store:
        for key, lifetime in lifetimes.items():
            store.put(key, key, expires_at=None if lifetime is None else START + lifetime)
        clock.advance(seconds)
        now = clock.time()
        alive = {key for key, end in lifetimes.items() if end is None or START + end > now}
        if compacted:
            store.compact()
        check_store(store)  # compares every way of reading
        assert set(store) == alive
        assert store.get_many(sorted(lifetimes)) == [
            key if key in alive else None for key in sorted(lifetimes)
        ]


# -- writing


@pytest.fixture
def writer(tmp_path, clock):
    with Store(tmp_path / "store", **OPTIONS, clock=clock) as opened:
        yield opened


def test_if_version_takes_an_expired_key_for_absent(writer, clock):
    version = writer.put(b"key", b"1", expires_at=END)
    with pytest.raises(VersionConflict, match=f"expected version 0, found {version}"):
        writer.put(b"key", b"2", if_version=0)
    clock.now = END
    for call in (
        lambda: writer.put(b"key", b"2", if_version=version),
        lambda: writer.delete(b"key", if_version=version),
    ):
        with pytest.raises(VersionConflict) as caught:
            call()
        assert (caught.value.expected, caught.value.found) == (version, 0)
    newer = writer.put(b"key", b"2", if_version=0)
    assert newer == version + 1
    assert writer.get_entry(b"key") == (b"key", b"2", b"", None, newer)


def test_deleting_an_expired_key_is_deleting_nothing(writer, clock):
    writer.put(b"key", b"", expires_at=END)
    clock.now = END
    version = writer.version
    assert writer.delete(b"key") == 0
    with pytest.raises(KeyNotFound):
        del writer[b"key"]
    assert writer.version == version


def test_each_put_says_anew_when_a_key_expires(writer, clock):
    writer.put(b"longer", b"", expires_at=END)
    writer.put(b"longer", b"", expires_at=END + 5)
    writer.put(b"forever", b"", expires_at=END)
    writer.put(b"forever", b"")
    writer.put(b"shorter", b"")
    writer.put(b"shorter", b"", expires_at=END)
    clock.now = END
    assert list(writer) == [b"forever", b"longer"]
    clock.now = END + 5
    assert list(writer) == [b"forever"]


@pytest.mark.parametrize("moment", [START, START - 1, -1.0, 0, math.nan, math.inf, -math.inf])
def test_a_moment_that_is_not_in_the_future_writes_nothing(writer, moment):
    for target in (writer, writer.batch()):
        with pytest.raises(InvalidRequest, match="must be a moment in the future"):
            target.put(b"key", b"", expires_at=moment)
    assert writer.version == 0
    assert writer.put(b"key", b"", expires_at=math.nextafter(START, math.inf)) == 1


# -- time and files


def expiring(store, count=100):
    store.put(b"stays", b"")
    for number in range(count):
        store.put(b"%03d" % number, b"v" * 200, metadata=b"m" * 50, expires_at=END + number)


def test_expiry_outlives_reopening(tmp_path, clock):
    for options in ({}, {}, {"rebuild": True}):
        with Store(tmp_path / "store", **OPTIONS, clock=clock, **options) as store:
            clock.now = START
            if not store:
                expiring(store)
            assert len(store) == 101
            assert store.get_entry(b"007").expires_at == END + 7
            store.checkpoint()
            clock.now = END + 50
            assert len(store) == 50
            check_store(store)


@pytest.mark.parametrize("how", ["compact", "in the background"])
def test_compaction_drops_what_has_expired(writer, clock, how):
    expiring(writer)
    before = writer.stats()
    clock.now = END + 50
    if how == "compact":
        assert writer.compact() > 40 * 250
    else:
        writer._parts.end_active_segment()
        writer.checkpoint()
        writer._parts.maintenance.run(lambda: maintenance.compact_in_background(writer._parts))
    after = writer.stats()
    assert before.keys == 101
    assert 50 <= after.keys <= (50 if how == "compact" else 65)  # segments with a few may stay
    assert after.log_bytes < 0.7 * before.log_bytes
    assert after.live_bytes < 0.7 * before.live_bytes
    assert len(writer) == 50
    check_store(writer)
    clock.now = END + 100
    writer.compact()
    assert [change.key for change in writer.tail() if change.kind == "put"] == [b"stays"]
    assert writer.stats().keys == 1


def test_an_older_value_does_not_come_back_when_the_newer_one_expires(tmp_path, clock):
    """Not while it lies in another segment, not after compaction, not from the log alone."""
    path, options = tmp_path / "store", {**OPTIONS, "clock": clock}
    with Store(path, **options) as store:
        store.put(b"key", b"older")
        store._parts.end_active_segment()
        store.put(b"key", b"newer", expires_at=END)
        store._parts.end_active_segment()
        store.put(b"other", b"")
        clock.now = END
        assert b"key" not in store
        store.compact()
        assert b"key" not in store
    for rebuild in (False, True):
        with Store(path, **options, rebuild=rebuild) as store:
            assert list(store) == [b"other"]
            check_store(store)


def test_when_the_clock_goes_back_only_what_is_still_in_the_log_is_seen_again(tmp_path, clock):
    """The store believes its clock; what compaction removed is gone for good."""
    path, options = tmp_path / "store", {**OPTIONS, "clock": clock}
    with Store(path, **options) as store:
        expiring(store)
        clock.now = END + 50
        assert len(store) == 50
        clock.now = START
        assert len(store) == 101
        clock.now = END + 50
        store.compact()
        clock.now = START
        assert len(store) == 50
        check_store(store)
    for rebuild in (False, True):
        with Store(path, **options, rebuild=rebuild) as store:
            assert len(store) == 50
            assert store.get_many([b"000", b"050"]) == [None, None]
            assert store.get(b"051") == b"v" * 200


def test_a_store_without_expiries_never_looks_at_the_clock_to_read(tmp_path):
    class NoClock:
        def time(self):
            raise AssertionError("nobody needs to know the time")

    with Store(tmp_path / "store", **OPTIONS, clock=NoClock()) as store:
        store[b"key"] = b"value"
        assert store[b"key"] == b"value"
        assert store.get_many([b"key"]) == [b"value"]
        assert list(store.items()) == [(b"key", b"value")]
        assert len(store) == 1
