"""Code of keys and values that runs in the middle of a call finds the cache whole."""

import gc
import threading
import weakref

import pytest

from kvengine.cache.cache import POLICIES
from kvengine.cache.memory import Cache

every_policy = pytest.mark.parametrize("policy", POLICIES)


class Calls:
    """A value that calls something when it goes."""

    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()


def whole(cache):
    keys = list(cache)
    assert len(keys) == len(set(keys)) == len(cache)
    assert cache.currsize <= cache.maxsize
    for key in keys:
        cache.peek(key)


@every_policy
def test_a_value_that_goes_may_use_the_cache(policy):
    cache, calls = Cache(5, policy=policy), []

    def call():
        calls.append(1)
        whole(cache)
        cache[f"from {len(calls)}"] = len(calls)
        cache.delete(f"from {len(calls) - 1}")
        cache.get(3)
        if len(calls) == 50:
            cache.clear()
        whole(cache)

    for number in range(200):
        cache[number] = Calls(call)
        if number % 7 == 0:
            cache[number] = Calls(call)
        if number % 11 == 0:
            cache.delete(number)
        whole(cache)
    cache.clear()
    assert len(calls) >= 200


class Meddling:
    """A key that changes the cache while it is compared."""

    cache: Cache
    armed = False

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return 7

    def __eq__(self, other):
        if Meddling.armed:
            Meddling.armed = False
            Meddling.cache.clear()
            for number in range(40):
                Meddling.cache[f"{number}"] = number
        return self.name == other.name


@every_policy
@pytest.mark.parametrize("call", ["get", "set", "delete", "contains"])
def test_a_key_may_change_the_cache_while_it_is_compared(policy, call):
    cache = Meddling.cache = Cache(100, policy=policy)
    first, second = Meddling("first"), Meddling("second")
    cache[first], cache[second] = 1, 2
    Meddling.armed = True
    if call == "get":
        assert cache.get(Meddling("second")) is None
    elif call == "set":
        cache[Meddling("second")] = 3
        assert cache[second] == 3
    elif call == "delete":
        assert not cache.delete(Meddling("second"))
    else:
        assert Meddling("second") not in cache
    assert not Meddling.armed
    whole(cache)


def test_keys_and_values_that_refer_to_the_cache_are_collected():
    class Node:
        cache: Cache

    cache, node = Cache(10), Node()
    node.cache = cache
    cache["node"] = node
    gone = weakref.ref(node)
    del cache, node
    gc.collect()
    assert gone() is None


def test_a_hash_that_fails_fails_the_call_and_nothing_else():
    cache = Cache(10)
    cache["a"] = 1
    for call in (cache.get, cache.delete, cache.peek, lambda key: cache.set(key, 1)):
        with pytest.raises(TypeError, match="unhashable"):
            call([])
    whole(cache)


def test_a_comparison_that_fails_fails_the_call_and_nothing_else():
    class Wrong:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise RuntimeError("no")

    cache = Cache(10)
    cache[Wrong()] = 1
    with pytest.raises(RuntimeError):
        cache.get(Wrong())
    with pytest.raises(RuntimeError):
        cache[Wrong()] = 2
    assert len(cache) == 1


@every_policy
def test_threads_share_it(policy):
    cache, errors = Cache(100, policy=policy), []

    def work(seed):
        try:
            for number in range(5000):
                key = (number * seed) % 300
                found = cache.get(key)
                assert found is None or found == key
                cache[key] = key
                if number % 50 == 0:
                    whole_enough(cache)
                if number % 97 == 0:
                    cache.delete(key)
        except AssertionError as error:
            errors.append(error)

    def whole_enough(cache):
        assert cache.currsize <= 100
        list(cache)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    whole(cache)


def test_no_reference_is_lost_or_left():
    import sys

    value, key = object(), "a key of its own"
    before = sys.getrefcount(value), sys.getrefcount(key)
    for policy in POLICIES:
        cache = Cache(3, policy=policy)
        for number in range(100):
            cache[key] = value
            cache.get(key)
            cache[number] = value
        cache.popitem()
        cache.delete(key)
        cache.clear()
    assert (sys.getrefcount(value), sys.getrefcount(key)) == before
