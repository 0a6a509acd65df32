"""The memory cache against a dict: what it gives is what was set last, and its bounds hold."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvengine import InvalidRequest, InvalidType
from kvengine.cache.cache import POLICIES
from kvengine.cache.memory import Cache, CacheInfo


class Colliding:
    """A key whose hash is that of many others, and whose comparison is Python code."""

    def __init__(self, number):
        self.number = number

    def __hash__(self):
        return self.number % 3

    def __eq__(self, other):
        return isinstance(other, Colliding) and self.number == other.number


KEYS = [*range(12), *"abcdefgh", b"a", b"b", None, 1.5, (1, "x"), *map(Colliding, range(8))]


class CacheMachine(RuleBasedStateMachine):
    """A cache, next to a dict of all that was set and may still be there."""

    @initialize(
        policy=st.sampled_from(POLICIES),
        maxsize=st.sampled_from([1, 2, 5, 20]),
        sized=st.booleans(),
        entries=st.none() | st.sampled_from([1, 3]),
        ttl=st.none() | st.sampled_from([5.0, 20.0]),
        weight=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def start(self, policy, maxsize, sized, entries, ttl, weight):
        self.time, self.ttl, self.sizes = 100.0, ttl, {}
        self.sized, self.entries = sized, maxsize
        options = {"policy": policy, "size_weight": weight, "ttl": ttl, "timer": lambda: self.time}
        if sized:
            self.room, self.entries = maxsize * 10, entries or 10**6
            self.cache = Cache(entries, memory_bytes=self.room, **options)
        else:
            self.room = maxsize
            self.cache = Cache(maxsize, **options)
        self.model = {}  # value, end, size

    def alive(self, key):
        return key in self.model and self.time < self.model[key][1]

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 60), ttl=st.none() | st.just(10.0))
    def set(self, key, size, ttl):
        value = object()
        size = size if self.sized else 1
        held = self.cache.set(key, value, size, ttl)
        life = self.ttl if ttl is None else ttl
        self.model.pop(key, None)
        if held:
            end = float("inf") if life is None else self.time + life
            self.model[key] = (value, end, size)
            if life != 0:
                assert self.cache.peek(key) is value
        else:
            assert size > self.room // 16
            assert key not in self.cache

    @rule(key=st.sampled_from(KEYS))
    def get(self, key):
        absent = object()
        found = self.cache.get(key, absent)
        if found is not absent:
            assert self.alive(key)
            assert found is self.model[key][0]

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key):
        assert not (self.cache.delete(key) and not self.alive(key))
        self.model.pop(key, None)
        assert key not in self.cache

    @rule(seconds=st.sampled_from([0.5, 4.0, 30.0]))
    def wait(self, seconds):
        self.time += seconds

    @rule()
    def popitem(self):
        if len(self.cache):
            key, value = self.cache.popitem()
            assert self.alive(key)
            assert self.model.pop(key)[0] is value
        else:
            with pytest.raises(KeyError):
                self.cache.popitem()

    @rule()
    def clear(self):
        self.cache.clear()
        self.model.clear()

    @invariant()
    def bounds_hold_and_what_is_there_was_set(self):
        if not hasattr(self, "cache"):
            return
        keys = list(self.cache)
        assert len(keys) == len(set(keys)) == len(self.cache) <= self.entries
        assert all(self.cache.peek(key) is self.model[key][0] for key in keys)
        assert all(self.alive(key) for key in keys)
        assert self.cache.currsize == sum(self.model[key][2] for key in keys) <= self.room


CacheMachine.TestCase.settings = settings(stateful_step_count=60)
TestCache = CacheMachine.TestCase

every_policy = pytest.mark.parametrize("policy", POLICIES)


@every_policy
def test_it_is_a_mapping(policy):
    cache = Cache(10, policy=policy)
    cache["a"], cache["b"] = 1, None
    assert cache["a"] == 1
    assert cache.get("b", "default") is None
    assert cache.get("c", "default") == "default"
    assert "b" in cache
    assert "c" not in cache
    with pytest.raises(KeyError):
        cache["c"]
    with pytest.raises(KeyError):
        del cache["c"]
    assert cache.pop("a") == 1
    assert cache.pop("a", 5) == 5
    assert cache.setdefault("d", 4) == 4
    cache.update({"e": 5})
    assert dict(cache.items()) == {"b": None, "d": 4, "e": 5}
    assert repr(cache) == "Cache(maxsize=10, currsize=3)"


def test_what_it_tells_of_itself():
    cache = Cache(3)
    for key in (1, 2, 3, 4):
        cache[key] = key
    assert cache.get(4) == 4
    assert cache.get(9) is None
    assert cache.cache_info() == CacheInfo(hits=1, misses=1, maxsize=3, currsize=3)
    assert (cache.maxsize, cache.currsize, len(cache)) == (3, 3, 3)
    assert cache.getsizeof is None
    cache.clear()
    assert cache.cache_info() == CacheInfo(1, 1, 3, 0)


def test_missing_keys_are_made_by_subclasses():
    class Squares(Cache):
        def __missing__(self, key):
            self[key] = key * key
            return self[key]

    squares = Squares(10)
    assert squares[7] == 49
    assert 7 in squares


def test_sizes_come_from_getsizeof():
    cache = Cache(10, getsizeof=len)
    cache["a"] = "xxxx"
    cache["b"] = "xxxxxx"
    assert cache.currsize == 10
    cache["a"] = "x"
    assert cache.currsize == 7
    with pytest.raises(InvalidRequest, match="value too large"):
        cache["a"] = "x" * 11
    assert cache["a"] == "x"
    assert not cache.set("a", "x" * 11)
    assert "a" not in cache


def test_memory_is_charged_for_keys_values_and_the_entry():
    cache = Cache(memory_bytes=10_000)
    cache[b"12345"] = b"x" * 100
    assert cache.currsize == (33 + 5) + (33 + 100) + 64
    cache["é"] = "abc"
    assert cache.currsize == 235 + (56 + 1) + (56 + 3) + 64
    cache.set("given", object(), 500)
    assert cache.currsize == 235 + 180 + 500


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_an_entry_takes_little_memory_besides_key_and_value(count):
    cache = Cache(count)
    for number in range(2 * count):
        cache[number] = None
    assert cache.memory_usage() / count < 90


def test_it_never_holds_a_value_longer_than_its_time():
    now = [0.0]
    cache = Cache(10, ttl=10.0, timer=lambda: now[0])
    cache["a"] = 1
    cache.set("b", 2, ttl=20.0)
    now[0] = 9.98
    assert cache.get("a") == 1
    now[0] = 10.0
    assert cache.get("a") is None
    assert "a" not in cache
    assert (cache["b"], len(cache), list(cache)) == (2, 1, ["b"])
    cache["b"] = 3
    now[0] = 19.9
    assert cache["b"] == 3
    now[0] = 20.0
    assert cache.expire() == 1
    assert cache.currsize == 0


def test_times_are_right_after_weeks():
    now = [0.0]
    cache = Cache(100, timer=lambda: now[0])
    for week in range(30):
        now[0] = week * 604800.0
        cache.set(week, week, ttl=1_000_000.0)
        for other in range(week + 1):
            assert (other in cache) == (now[0] - other * 604800.0 < 1_000_000.0)


def test_entries_that_have_ended_make_room_for_others():
    now = [0.0]
    cache = Cache(1000, timer=lambda: now[0])
    for number in range(500):
        cache.set(number, number, ttl=1.0)
    now[0] = 2.0
    for number in range(500, 800):
        cache.set(number, number, ttl=1.0)
    assert cache.cache_info().currsize <= 300 + 50  # not asked: nothing was looked at for this


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs a bound"),
        ({"maxsize": -1}, "maxsize must be a number of at least 0"),
        ({"maxsize": True}, "maxsize must be a number"),
        ({"memory_bytes": "1"}, "memory_bytes must be a number"),
        ({"maxsize": 1, "ttl": -1}, "ttl must be a number of seconds"),
        ({"maxsize": 1, "policy": "mru"}, "policy must be 'adaptive' or 'lru'"),
        ({"maxsize": 1, "size_weight": 3}, "size_weight must be between 0 and 2"),
        ({"maxsize": 1, "memory_bytes": 1, "getsizeof": len}, "no getsizeof"),
    ],
)
def test_arguments_are_checked(options, said):
    with pytest.raises(InvalidRequest, match=said):
        Cache(**options)
    with pytest.raises(InvalidType, match="getsizeof must be callable"):
        Cache(5, getsizeof=5)


def test_a_size_that_is_none_is_refused_and_changes_nothing():
    cache = Cache(10, getsizeof=lambda value: value)
    cache["a"] = 3
    for size in (-1, float("nan"), "x", None):
        with pytest.raises(InvalidRequest, match="entry's size"):
            cache["a"] = size
    assert cache["a"] == 3


def test_a_cache_without_room_holds_nothing():
    cache = Cache(0)
    assert not cache.set("a", 1)
    assert len(cache) == 0
    with pytest.raises(InvalidRequest):
        cache["a"] = 1


def test_views_leave_out_what_goes_meanwhile_and_count_no_reads():
    now = [0.0]
    cache = Cache(100, ttl=10.0, timer=lambda: now[0])
    for view in (cache.items, cache.values):
        cache.update({number: number for number in range(50)})
        seen = 0
        for _ in view():
            seen += 1
            if seen == 10:
                for number in range(25):
                    del cache[number]
            if seen == 20:
                now[0] += 10.0
        assert seen == 20
    assert cache.cache_info()[:2] == (0, 0)
    assert 1 not in cache.values()


def test_pop_and_setdefault_are_one_step_also_when_the_entry_ends_meanwhile():
    now, steps = [0.0], []

    def timer():
        steps.append(1)
        now[0] += 6.0  # an entry ends between two looks
        return now[0]

    cache = Cache(10, ttl=10.0, timer=timer)
    for _ in range(20):
        cache["k"] = "v"
        assert cache.pop("k", "none") in ("v", "none")
        assert cache.pop("k", "none") == "none"
        cache["k"] = "v"
        assert cache.setdefault("k", "w") in ("v", "w")
        cache.get("k")
    assert cache.setdefault("new", 1) == 1
    with pytest.raises(KeyError):
        cache.pop("absent")
    with pytest.raises(InvalidRequest, match="too large"):
        Cache(1, getsizeof=len).setdefault("k", "xx")


def test_setdefault_gives_nothing_that_has_ended_and_holds_the_new_value_anew():
    now = [0.0]
    cache = Cache(10, ttl=10.0, timer=lambda: now[0])
    for value in range(5):
        assert cache.setdefault("k", value) == value
        now[0] += 9.0
        assert cache.setdefault("k", "other") == value
        now[0] += 1.0  # its time is over, counted from when it was held


DAY = 86400.0


@pytest.mark.parametrize("start", [0.0, 24.8 * DAY, 49.7 * DAY, 150 * 365 * DAY, -1000.0 * DAY])
@pytest.mark.parametrize("days", [0.0001, 1, 30, 60, 365, 200 * 365])
def test_a_time_of_any_length_set_on_any_day_is_kept_to_the_end(start, days):
    now = [0.0]
    cache = Cache(10, timer=lambda: now[0])
    cache.set("before", 0, ttl=1.0)
    now[0] = start
    cache.set("k", "v", ttl=days * DAY)
    now[0] = start + days * DAY - 0.02
    assert cache.get("k") == "v"
    now[0] = start + days * DAY
    assert cache.get("k") is None


def test_a_clock_that_goes_back_or_says_nothing_gives_no_value_for_longer():
    now = [100.0]
    cache = Cache(10, ttl=10.0, timer=lambda: now[0])
    cache["k"] = "v"
    now[0] = 50.0
    assert cache.get("k") == "v"
    now[0] = float("nan")
    assert cache.get("k") is None
    cache["k"] = "v"
    now[0] = 100.0
    assert cache.get("k") is None  # nobody knows when it came
    cache.set("forever", 1, ttl=float("inf"))
    now[0] = 1e18
    assert cache.get("forever") == 1
