"""Samples of keys: every key is as likely as every other, and dead keys cost little."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import Store
from kvengine.engine.order.sampling import sample
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock

OPTIONS = {"durability": "os", "compaction": "manual"}
# Long and short keys, in a few large groups and many small ones: no two blocks look alike.
SKEWED = [
    *(b"x/%d" % number for number in range(1500)),
    *(b"x/" + bytes([65 + number]) * 300 + b"%d" % number for number in range(60)),
    *(b"x/tenant/%08d/settings" % (number * number) for number in range(440)),
]


def sampled(store, prefix, wanted):
    return sample(store._parts, store._parts.key_order, prefix, wanted)


@pytest.mark.parametrize("entries", [1 << 16, 600, 64], ids=["buffer", "both", "runs"])
def test_every_key_is_as_likely(entries):
    with Store.in_memory(**OPTIONS, key_buffer_entries=entries) as store:
        random.Random(1).shuffle(keys := list(SKEWED))
        for key in keys:
            store.put(key, b"v" * 3)
            store.put(b"w" + key, b"")
        store.put(b"y", b"")
        seen = Counter()
        for _ in range(500):
            found = sampled(store, b"x/", 40)
            assert len({key for key, *_ in found}) == len(found) >= 40
            seen.update(key for key, *_ in found)
        assert set(seen) <= set(SKEWED)
        groups = [
            (SKEWED[:1500], 0.75), (SKEWED[1500:1560], 0.03), (SKEWED[1560:], 0.22),
            (sorted(SKEWED)[:200], 0.1), (sorted(SKEWED)[-200:], 0.1),
        ]  # fmt: skip
        for group, share in groups:
            assert sum(seen[key] for key in group) == pytest.approx(share * seen.total(), rel=0.15)
        assert len(seen) > 0.99 * len(SKEWED)


def test_it_says_how_large_a_key_is_and_which_version():
    with Store.in_memory(**OPTIONS) as store:
        version = store.put(b"key", b"value", metadata=b"meta")
        assert sampled(store, b"", 5) == [(b"key", 12, version)]
        assert sampled(store, b"key", 1) == [(b"key", 12, version)]
        assert sampled(store, b"keys", 5) == sampled(store, b"a", 5) == []
        store.delete(b"key")
        assert sampled(store, b"", 5) == []


def test_only_living_keys_are_given():
    clock = ManualClock()
    with Store.in_memory(**OPTIONS, clock=clock, key_buffer_entries=16) as store:
        for number in range(200):
            store.put(b"%03d" % number, b"", expires_at=clock.time() + 1 + number % 2 * 9)
        store.delete(b"001")
        clock.advance(5)
        found = {key for _ in range(40) for key, *_ in sampled(store, b"", 20)}
        assert found <= {b"%03d" % number for number in range(3, 200, 2)}
        assert len(found) > 80


def test_after_reopening_blocks_are_compared_with_their_checksums(tmp_path):
    with Store(tmp_path / "s", **OPTIONS, key_buffer_entries=64) as store:
        for key in SKEWED:
            store.put(key, b"")
    with Store(tmp_path / "s", **OPTIONS) as store:
        found = {key for _ in range(100) for key, *_ in sampled(store, b"x/", 50)}
        assert found <= set(SKEWED)
        assert len(found) > 0.8 * len(SKEWED)


KEYS = [b"%d" % number for number in range(40)]


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=120),
    st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=40),
)
def test_a_buffer_without_its_dead_keys_lists_the_same(before, after):
    with Store.in_memory(**OPTIONS) as store:
        model = set()

        def change(changes):
            for key, is_put in changes:
                if is_put:
                    store.put(key, b"")
                    model.add(key)
                else:
                    store.delete(key)
                    model.discard(key)

        change(before)
        scan = iter(store.keys(b""))
        first = next(scan, None)
        store._parts.exclusively(store._parts.key_order.drop_dead, store._parts)
        assert [buffer.count for buffer in store._parts.key_order.buffers()] == [len(model)]
        assert list(store.keys()) == sorted(model)
        assert ([] if first is None else [first, *scan]) == sorted(model)
        change(after)
        assert list(store.keys()) == sorted(model)
        check_store(store)


def test_keys_that_come_and_go_do_not_pile_up_in_memory():
    with Store.in_memory(**OPTIONS, key_buffer_entries=4000) as store:
        for number in range(20_000):
            store.put(b"%d" % number, b"")
            if number >= 100:
                store.delete(b"%d" % (number - 100))
        store._parts.maintenance.run(store._parts.flush_keys)
        assert sum(buffer.count for buffer in store._parts.key_order.buffers()) < 4000
        assert len(list(store.keys())) == 100


def test_runs_that_are_mostly_dead_are_merged():
    with Store.in_memory(**OPTIONS, key_buffer_entries=500) as store:
        for number in range(4000):
            store.put(b"%d" % number, b"")
        store._parts.maintenance.run(store._parts.flush_keys)
        assert sum(store._parts.key_order.counts()) >= 3500
        for number in range(3990):
            store.delete(b"%d" % number)
        store._parts.maintenance.run(store._parts.flush_keys)
        assert sum(store._parts.key_order.counts()) <= 10
        assert len(list(store.keys())) == 10
        check_store(store)
