"""Digests: equal for equal stores whatever their history, different for any difference."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import Digest, InvalidRequest, Store
from kvengine.engine.following import replica
from kvengine.engine.log.manifest import Origin
from kvengine.entry import Change
from kvengine.testing.clock import ManualClock

SMALL = {"durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16}


def change(version, key=b"key", value=b"value", metadata=b"about", expires_at=None):
    return Change(version, "put", key, value, metadata, expires_at)


def holding(*changes, **options):
    store = Store.in_memory(**SMALL, **options)
    replica.begin(store._parts, Origin("", 0))
    store._parts.apply(changes)
    return store


BASE = [change(number, b"%d" % number) for number in range(1, 20)]


@pytest.mark.parametrize(
    "other",
    [
        BASE[:-1],
        [*BASE, change(20, b"more")],
        [*BASE[:-1], change(20, b"19")],
        [*BASE[:-1], change(19, b"19", value=b"valuf")],
        [*BASE[:-1], change(19, b"19", value=b"val", metadata=b"aboutue")],
        [*BASE[:-1], change(19, b"1", value=b"9value")],
        [*BASE[:-1], change(19, b"19", metadata=b"abouu")],
        [*BASE[:-1], change(19, b"19", expires_at=1e12)],
    ],
)
def test_any_difference_shows(other):
    with holding(*BASE) as one, holding(*other) as two:
        assert one.digest(moment=10)[2:] != two.digest(moment=10)[2:]
        assert one.digest(start=b"1")[2:] != two.digest(start=b"1")[2:]


def test_it_says_what_it_is_of():
    clock = ManualClock()
    with holding(*BASE, clock=clock) as store:
        digest = store.digest()
        assert digest[:3] == (19, -(-clock.time() // 1) + 60, 19)
        assert 0 < digest.sum < 1 << 128
        assert digest == Digest(*digest)
        assert store.digest(start=b"2", end=b"30").keys == 2
        assert store.digest(start=b"3", end=b"3\0").keys == 1
        assert store.digest(end=b"10").keys == 1
        assert store.digest(start=b"x") == (19, digest.moment, 0, 0)
        for wrong in (1.5, "1", True):
            with pytest.raises(InvalidRequest, match="whole second"):
                store.digest(moment=wrong)


def test_an_empty_store_has_one_too():
    with Store.in_memory() as store:
        assert store.digest(moment=5) == (0, 5, 0, 0)


def test_ranges_add_up():
    with holding(*BASE) as store:
        whole = store.digest(moment=5)
        parts = [store.digest(start=b"", end=b"15", moment=5), store.digest(start=b"15", moment=5)]
        assert sum(part.keys for part in parts) == whole.keys
        low = sum(part.sum & (1 << 64) - 1 for part in parts) % (1 << 64)
        assert low == whole.sum & (1 << 64) - 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.sampled_from([None, 1, 50, 100.5])),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["digest", "compact", "open", "checkpoint"])),
        st.tuples(st.just("pass"), st.integers(1, 80)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=80)
@given(STEPS)
def test_it_goes_along_with_any_history(tmp_path_factory, steps):
    folder, clock = tmp_path_factory.mktemp("digest"), ManualClock()
    options = {**SMALL, "compaction": "manual", "clock": clock}
    store = Store(folder, **options)
    for step, *arguments in steps:
        if step == "put":
            number, lifetime = arguments
            expires_at = None if lifetime is None else clock.time() + lifetime
            store.put(b"%d" % number, b"%d" % store.version * 700, expires_at=expires_at)
        elif step == "delete":
            store.delete(b"%d" % arguments[0])
        elif step == "pass":
            clock.advance(arguments[0])
        elif step == "open":
            store.close()
            store = Store(folder, **options)
        elif step == "digest":
            store.digest()
        else:
            getattr(store, step)()
    rolled = store.digest()
    wanted = [e for e in store.scan() if not e.expires_at or e.expires_at > rolled.moment]
    wanted.sort(key=lambda entry: entry.version)
    with holding(*(change(e.version, *e[:4]) for e in wanted)) as other:
        assert other.digest(moment=rolled.moment)[1:] == rolled[1:]
    with store.snapshot() as frozen:
        assert frozen.digest(moment=rolled.moment) == rolled
    store.close()


@pytest.mark.parametrize("start", [b"", b"0"])
def test_it_is_of_one_version_while_others_write(start):
    with Store.in_memory(compaction="manual") as store:
        store.update({b"%05d" % number: b"0" for number in range(3000)})
        stopping = threading.Event()

        def write():
            while not stopping.is_set():
                store.put(b"%05d" % (store.version * 7 % 4000), b"%d" % store.version)

        thread = threading.Thread(target=write)
        thread.start()
        digests = [store.digest(start=start) for _ in range(5)]
        stopping.set()
        thread.join()
        history = list(store.tail())
    for digest in digests:
        upto = tuple(change for change in history if change.version <= digest.version)
        with holding(*upto) as other:
            assert other.digest(start=start, moment=digest.moment) == digest
