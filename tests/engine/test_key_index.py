"""The hash index: whatever keys come and go, it holds what a dict would, in bounded memory.

The keys are hostile: many of one bucket, pairs that have all bits in common which the index keeps.
Besides what reads return, the tables themselves are checked: each entry where a search looks.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine.engine.index.key_index import hash_of
from tests.engine.index_tables import (
    BUCKET_ENTRIES,
    NEIGHBORHOOD,
    SEED,
    SHARD_BYTES,
    check_content,
    check_index,
    crowded,
    is_growing,
    open_store,
    shards_of,
    tag,
    twins,
)

PLACES = BUCKET_ENTRIES * NEIGHBORHOOD  # for keys of one bucket; more go to the stash
POOL = (
    crowded(PLACES + 20)
    + crowded(40, first=101)
    + crowded(40, first=107)
    + tuple(key for pair in twins()[:5] for key in pair)
)


def change(store, model, kind, key, value):
    """Make the same change to a store and to a dict."""
    if kind == "delete":
        assert bool(store.delete(key)) == (model.pop(key, None) is not None)
    else:
        store.put(key, value)
        model[key] = value


def filled(count, **options):
    store = open_store(**options)
    store.update((b"%d" % number, b"") for number in range(count))
    return store


def test_the_pool_is_as_hostile_as_it_claims():
    assert len({hash_of(key, SEED) & 1023 for key in POOL[: PLACES + 20]}) == 1
    assert len(twins()) >= 5
    kept = ~(2**43 - 1) | 1023
    for one, other in twins():
        assert one != other
        assert hash_of(one, SEED) & kept == hash_of(other, SEED) & kept


# -- against a dict


@settings(max_examples=60)
@given(
    start=st.sets(st.sampled_from(POOL)),
    changes=st.lists(
        st.tuples(st.sampled_from(["put", "put", "delete", "batch"]), st.sampled_from(POOL)),
        max_size=150,
    ),
)
def test_hostile_keys_against_a_dict(start, changes):
    with open_store() as store:
        model = dict.fromkeys(start, b"first")
        store.update(model)
        for number, (kind, key) in enumerate(changes):
            value = b"%d" % number
            if kind != "batch":
                change(store, model, kind, key, value)
                assert store.get(key) == model.get(key)
                continue
            neighbors = POOL[POOL.index(key) :][:5]
            with store.batch() as batch:
                for other in neighbors:
                    batch.put(other, value)
                batch.delete(key)
            model.update(dict.fromkeys(neighbors, value))
            del model[key]
        check_content(store, model)
        assert not any(key in store for key in POOL if key not in model)
        check_index(store._parts.key_index, model)


@pytest.mark.parametrize("seed", range(3))
def test_long_churn_of_hostile_keys(seed):
    source = random.Random(seed)
    with open_store() as store:
        model = {}
        for number in range(12_000):
            # Phases of growing and of shrinking, so that buckets fill up and empty again.
            is_delete = source.random() < (0.3, 0.7)[number // 1500 % 2]
            key = source.choice(POOL)
            change(store, model, "delete" if is_delete else "put", key, b"%d" % number)
            if number % 1000 == 999:
                check_index(store._parts.key_index, model)
        check_content(store, model)


def test_keys_that_share_all_bits_are_told_apart():
    with open_store() as store:
        for one, other in twins():
            store[one] = b"one"
            assert other not in store
            assert store.get_many([other, one]) == [None, b"one"]
            store[other] = b"other"
            assert (store[one], store[other]) == (b"one", b"other")
            del store[one]
            assert (store.get(one), store[other]) == (None, b"other")
            store[one] = b"again"
            assert (store[one], store[other]) == (b"again", b"other")
        check_index(store._parts.key_index, {key for pair in twins() for key in pair})


def test_the_ends_of_a_shard_are_neighbors():
    """Keys of the last bucket that find it full lie in the first ones."""
    keys = crowded(PLACES, first=1023)
    with open_store() as store:
        store.update(dict.fromkeys(keys, b""))
        assert check_index(store._parts.key_index, keys) == (1, 0)
        assert any(shards_of(store._parts.key_index)[0][:64])
        for gone in range(0, PLACES, 3):
            del store[keys[gone]]
        check_index(store._parts.key_index, [key for i, key in enumerate(keys) if i % 3])


# -- the stash


def test_keys_without_a_place_are_found_replaced_and_deleted():
    keys = crowded(PLACES + 60)
    with open_store() as store:
        model = {key: b"v" + key for key in keys}
        store.update(model)
        assert check_index(store._parts.key_index, keys) == (1, 60)
        check_content(store, model)
        for key in keys[::2]:  # some have a place and some do not
            change(store, model, "put", key, b"new")
        assert check_index(store._parts.key_index, keys) == (1, 60)
        for key in keys[::3]:
            change(store, model, "delete", key, b"")
        check_content(store, model)
        assert not any(key in store for key in keys[::3])
        _, stashed = check_index(store._parts.key_index, model)
        assert stashed == 40


def test_a_growth_gives_stashed_keys_a_place():
    keys = crowded(PLACES + 30)
    with open_store() as store:
        store.update(dict.fromkeys(keys, b""))
        assert check_index(store._parts.key_index, keys) == (1, 30)
        others = [b"other %d" % number for number in range(30_000)]
        store.update(dict.fromkeys(others, b""))
        shards, stashed = check_index(store._parts.key_index, [*keys, *others])
        assert shards == 6
        assert stashed < 5
        assert all(key in store for key in keys)


def test_the_stash_is_used_again():
    keys = crowded(PLACES + 60)
    with open_store() as store:
        store.update(dict.fromkeys(keys, b""))
        before = store._parts.key_index.memory_bytes()
        for _ in range(100):
            for key in keys[-60:]:
                del store[key]
            store.update(dict.fromkeys(keys[-60:], b""))
        assert store._parts.key_index.memory_bytes() == before
        assert check_index(store._parts.key_index, keys) == (1, 60)


# -- growth and memory


def test_growth_from_nothing_through_many_sizes_in_bounded_memory():
    """A quarter more shards at a time: below 14.7 bytes a key, and twice that while it grows."""
    seen = []
    with open_store() as store:
        index = store._parts.key_index
        assert index.memory_bytes() == SHARD_BYTES
        for count in range(250, 50_001, 250):
            store.update((b"%d" % number, b"") for number in range(count - 250, count))
            assert index.count == count
            shards = index.memory_bytes() // SHARD_BYTES
            if is_growing(index):
                assert index.memory_bytes() <= 26.6 * count + 2 * SHARD_BYTES
                continue
            assert index.memory_bytes() <= 14.8 * count + 2 * SHARD_BYTES
            assert count <= 0.72 * 8192 * shards
            if shards not in seen:
                seen.append(shards)
                assert all(b"%d" % number in store for number in range(count))
                assert b"%d" % count not in store
        assert seen == [1, 2, 3, 4, 6, 8, 11]
        check_index(index, [b"%d" % number for number in range(50_000)])


@pytest.mark.parametrize("start", [5_571, 11_142, 33_424])
def test_every_change_is_right_in_the_middle_of_a_growth(start):
    """Keys are read, replaced and deleted on both sides of the boundary, until growth is over."""
    source = random.Random(start)
    with filled(start) as store:
        index, number = store._parts.key_index, start
        model = {b"%d" % old: b"" for old in range(start)}
        assert is_growing(index)
        while is_growing(index):
            change(store, model, "put", b"%d" % number, b"new")
            number += 1
            for _ in range(2):
                old = b"%d" % source.randrange(number)
                change(store, model, source.choice(["put", "delete"]), old, b"%d" % number)
                assert store.get(old) == model.get(old)
        assert number > start + 100  # else nothing was tried in between
        check_content(store, model)
        check_index(index, model)


def test_hostile_keys_move_through_growths():
    """Full neighborhoods, also across the end of a shard, are dealt out without a loss."""
    keys = [*crowded(150), *crowded(150, first=1023), *(key for pair in twins() for key in pair)]
    with open_store() as store:
        model = dict.fromkeys(keys, b"h")
        store.update(model)
        for size in range(12):
            more = {b"more %d %d" % (size, number): b"" for number in range(2_000)}
            store.update(more)
            model.update(more)
            assert store.get_many(keys) == [b"h"] * len(keys)
        check_content(store, model)
        assert check_index(store._parts.key_index, model)[0] >= 5


def test_keys_lie_in_shards_in_the_order_of_their_tags():
    with filled(12_000) as store:
        check_index(store._parts.key_index, [b"%d" % number for number in range(12_000)])
        middle = sum(tag(b"%d" % number) < 2**20 for number in range(12_000))
        assert 5_000 < middle < 7_000  # tags are spread evenly, so shards fill evenly


# -- space is given back


def test_deletes_leave_nothing_behind():
    with filled(20_000) as store:
        for number in range(20_000):
            assert store.delete(b"%d" % number)
        assert store._parts.key_index.count == 0
        assert list(store.keys()) == []
        assert not any(any(shard) for shard in shards_of(store._parts.key_index))
        assert store._parts.key_index.stashed() == []


def test_churn_of_other_keys_takes_no_more_memory():
    with filled(5_000) as store:
        before = store._parts.key_index.memory_bytes()
        for turn in range(12):
            old = [b"%d" % number for number in range(turn * 5_000, turn * 5_000 + 5_000)]
            new = [b"%d" % number for number in range(turn * 5_000 + 5_000, turn * 5_000 + 10_000)]
            with store.batch() as batch:
                for gone, come in zip(old, new, strict=True):
                    batch.delete(gone)
                    batch.put(come, b"")
            assert store._parts.key_index.count == 5_000
        assert store._parts.key_index.memory_bytes() <= before + 2 * 1024  # at most a short stash
        check_index(store._parts.key_index, new)


def test_replacing_takes_no_more_memory():
    with filled(5_000) as store:
        before = store._parts.key_index.memory_bytes()
        for turn in range(10):
            store.update((b"%d" % number, b"%d" % turn) for number in range(5_000))
        assert store._parts.key_index.count == 5_000
        assert store._parts.key_index.memory_bytes() == before
        check_index(store._parts.key_index, [b"%d" % number for number in range(5_000)])
