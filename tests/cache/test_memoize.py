"""memoize: one call of the function for all who want its result."""

import asyncio
import functools
import threading

import pytest

from kvengine import Cache, InvalidType


def test_results_are_kept_by_arguments():
    cache, calls = Cache(10), []

    @cache.memoize()
    def add(a, b=1):
        """Add."""
        calls.append((a, b))
        return a + b

    assert [add(1), add(1), add(1, b=2), add(a=1), add(2)] == [2, 2, 3, 2, 3]
    assert calls == [(1, 1), (1, 2), (1, 1), (2, 1)]
    assert add.__doc__ == "Add."
    assert add.cache_info().hits == 1
    assert add.forget(1)
    assert not add.forget(1)
    add(1)
    assert calls[-1] == (1, 1)
    add.cache_clear()
    assert len(cache) == 0


def test_functions_share_a_cache_and_not_their_results():
    cache = Cache(10)
    one = cache.memoize()(lambda x: ("one", x))
    two = cache.memoize(key=lambda x: x % 2)(lambda x: ("two", x))
    assert (one(1), two(1), two(3), one(1)) == (("one", 1), ("two", 1), ("two", 1), ("one", 1))


def test_none_is_a_result_and_an_error_is_not():
    calls = []

    @Cache(10).memoize()
    def none(x):
        calls.append(x)
        if x:
            raise ValueError(x)

    assert none(0) is none(0) is None
    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            none(1)
    assert calls == [0, 1, 1]


def test_results_end():
    now, calls = [0.0], []
    function = Cache(10, timer=lambda: now[0]).memoize(ttl=10.0)(calls.append)
    function(1)
    now[0] = 9.0
    function(1)
    now[0] = 10.0
    function(1)
    assert calls == [1, 1]


def test_threads_that_want_it_at_once_wait_for_one_call():
    calls, begun, go_on = [], threading.Event(), threading.Event()

    @Cache(10).memoize()
    def slow(x):
        calls.append(x)
        begun.set()
        assert go_on.wait(10)
        return x * 2

    results = []
    threads = [threading.Thread(target=lambda: results.append(slow(4))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go_on.set()
    for thread in threads:
        thread.join()
    assert (calls, results) == ([4], [8] * 8)


def test_tasks_that_want_it_at_once_wait_for_one_call():
    calls = []

    @Cache(10).memoize()
    async def slow(x):
        calls.append(x)
        await asyncio.sleep(0)
        if x < 0:
            raise ValueError(x)
        return x * 2

    async def main():
        assert await asyncio.gather(*(slow(4) for _ in range(8))) == [8] * 8
        failed = await asyncio.gather(*(slow(-1) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [ValueError] * 3
        tasks = [asyncio.create_task(slow(5)) for _ in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # the maker: the other one takes over
        assert await tasks[1] == 10

    asyncio.run(main())
    assert calls == [4, -1, 5, 5]


def test_what_can_not_be_memoized():
    with pytest.raises(InvalidType, match="only functions"):
        Cache(10).memoize()(5)
    with pytest.raises(InvalidType, match="hashable"):
        Cache(10).memoize()(lambda x: x)([])


def test_what_can_be_consumed_only_once_is_refused():
    def generator():
        yield 1

    async def async_generator():
        yield 1

    class Yields:
        def __call__(self):
            yield 1

    for function in (generator, async_generator, functools.partial(generator), Yields()):
        with pytest.raises(InvalidType, match="consumed only once"):
            Cache(10).memoize()(function)

    async def answer():
        return 1

    for result in (map(str, [1]), iter([1]), generator(), async_generator(), answer()):
        with pytest.raises(InvalidType, match="consumed only once"):
            Cache(10).memoize()(lambda result=result: result)()


def test_an_object_with_an_async_call_is_memoized_as_an_async_function():
    calls = []

    class Load:
        async def __call__(self, key):
            calls.append(key)
            return key * 2

    load = Cache(10).memoize()(Load())

    async def main():
        assert [await load(2), await load(2), await functools.partial(load, 2)()] == [4, 4, 4]

    asyncio.run(main())
    assert calls == [2]
