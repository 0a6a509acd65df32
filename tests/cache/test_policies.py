"""What goes: LRU to the letter, the adaptive policy by what it is for."""

import random
from bisect import bisect_left
from collections import OrderedDict, deque
from itertools import accumulate, chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.cache.cache import POLICIES
from kvengine.cache.memory import Cache
from kvengine.cache.sketch import Sketch


def hit_ratio(requests, room, policy, sizes=None, **options):
    cache = Cache(room, getsizeof=len if sizes else None, policy=policy, seed=1, **options)
    for key in requests:
        if cache.get(key) is None:
            cache.set(key, True, sizes[key] if sizes else None)
    return cache.cache_info().hits / cache_len(cache)


def cache_len(cache):
    info = cache.cache_info()
    return info.hits + info.misses


def zipf(count, length, seed, skew=1.0, first=0):
    sums = list(accumulate((n + 1) ** -skew for n in range(count)))
    chance = random.Random(seed)
    return [first + bisect_left(sums, chance.random() * sums[-1]) for _ in range(length)]


REQUESTS = st.lists(st.integers(0, 30), max_size=300)


@given(REQUESTS, st.integers(1, 12))
def test_lru_lets_go_what_was_not_used_for_longest(requests, room):
    cache, model = Cache(room, policy="lru"), OrderedDict()
    for key in requests:
        assert (cache.get(key) is not None) == (key in model)
        if key in model:
            model.move_to_end(key)
            continue
        cache[key] = key
        model[key] = key
        if len(model) > room:
            model.popitem(last=False)
    assert sorted(cache) == sorted(model)
    while model:
        assert cache.popitem()[0] == model.popitem(last=False)[0]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 4)), max_size=200),
    st.sampled_from([1, 10, 100]),
)
def test_a_sketch_never_counts_less_than_there_was(additions, keys):
    sketch, counts = Sketch(keys, 15), {}
    for number, (key, times) in enumerate(additions):
        sketch.add_hash(key, times)
        counts[key] = min(counts.get(key, 0) + times, 15)
        if number == 50:
            sketch.make_room(1000)
        if number == 100:
            sketch.halve_all()
            counts = {key: count // 2 for key, count in counts.items()}
        assert all(counts[key] <= sketch.estimate_hash(key) <= 15 for key in counts)
    sketch.clear()
    assert all(sketch.estimate_hash(key) == 0 for key in counts)


def test_a_sketch_with_room_is_nearly_right():
    sketch = Sketch(1000)
    for key in range(1000):
        sketch.add_hash(key * 2654435761 % 2**32, key % 10 + 1)
    wrong = sum(
        sketch.estimate_hash(key * 2654435761 % 2**32) != key % 10 + 1 for key in range(1000)
    )
    assert wrong < 50


def test_a_scan_does_not_push_out_what_is_popular():
    popular = zipf(1000, 40_000, seed=1)
    scan = range(10_000, 30_000)
    mixed = list(chain.from_iterable(zip(popular[20_000:], scan, strict=False)))
    assert hit_ratio(popular[:20_000] + mixed, 500, "adaptive") > (
        hit_ratio(popular[:20_000] + mixed, 500, "lru") + 0.02
    )


def test_a_loop_that_is_a_little_too_large_is_mostly_held():
    loop = list(chain.from_iterable(repeat(range(1200), 40)))
    assert hit_ratio(loop, 1000, "lru") == 0.0
    assert hit_ratio(loop, 1000, "adaptive") > 0.6


def test_when_other_keys_become_popular_they_are_held_soon():
    before, after = zipf(5000, 60_000, seed=1), zipf(5000, 60_000, seed=2, first=10_000)
    cache = Cache(500, seed=1)
    for key in before:
        if cache.get(key) is None:
            cache[key] = True
    ratios = []
    for start in range(0, len(after), 20_000):
        hits = 0
        for key in after[start : start + 20_000]:
            if cache.get(key) is None:
                cache[key] = True
            else:
                hits += 1
        ratios.append(hits / 20_000)
    assert ratios[1] > hit_ratio(before, 500, "adaptive") - 0.03


def test_small_values_are_worth_more_than_large_ones_if_that_is_wished():
    requests = zipf(2000, 60_000, seed=4, skew=0.8)
    chance = random.Random(5)
    sizes = [chance.choice([10, 10, 10, 2000]) for _ in range(2000)]
    small = hit_ratio(requests, 40_000, "adaptive", sizes, size_weight=1.0)
    even = hit_ratio(requests, 40_000, "adaptive", sizes, size_weight=0.0)
    assert small > even + 0.05
    assert small > hit_ratio(requests, 40_000, "lru", sizes) + 0.1


def test_the_adaptive_policy_is_as_good_as_lru_on_recency_and_better_on_frequency():
    recent, window = [], deque(maxlen=300)
    chance = random.Random(6)
    for number in range(60_000):
        key = chance.choice(window) if window and chance.random() < 0.5 else number
        window.append(key)
        recent.append(key)
    assert hit_ratio(recent, 500, "adaptive") > hit_ratio(recent, 500, "lru") - 0.02
    frequent = zipf(20_000, 60_000, seed=7, skew=0.9)
    assert hit_ratio(frequent, 500, "adaptive") > hit_ratio(frequent, 500, "lru") + 0.05


@pytest.mark.parametrize("policy", POLICIES)
def test_a_full_cache_takes_no_more_than_it_needs(policy):
    cache = Cache(maxsize=100_000, policy=policy)
    for number in range(120_000):
        cache.set(number, None)
    assert len(cache) == 100_000
    assert cache.memory_usage() / len(cache) < 65
