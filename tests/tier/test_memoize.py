"""memoize: one call of the function for all who want its result."""

import asyncio
import functools
import gc
import multiprocessing
import os
import signal
import sys
import threading

import pytest

from kvengine import Cache, InvalidRequest, InvalidType


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
    with pytest.raises(InvalidType, match="only a function"):
        Cache(10).memoize()(5)
    with pytest.raises(InvalidType, match="hashable"):
        Cache(10).memoize()(lambda x: x)([])


# -- what is forgotten, interrupted or needed in a circle


def in_thread(call, *args):
    """Start a thread; return it and the list that gets its result or its exception."""
    told = []

    def run():
        try:
            told.append(call(*args))
        except BaseException as error:  # noqa: BLE001 - told to the test
            told.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, told


def joined(*threads):
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it hangs"


@pytest.mark.parametrize("how", ["forget", "cache_clear", "clear of the cache"])
def test_what_is_forgotten_while_it_is_made_is_not_kept(how):
    cache, begun, go_on, source = Cache(10), threading.Event(), threading.Event(), ["old"]

    @cache.memoize()
    def load(key):
        found = source[0]
        if found == "old":
            begun.set()
            assert go_on.wait(60)
        return found

    thread, told = in_thread(load, 1)
    assert begun.wait(60)
    source[0] = "new"
    if how == "forget":
        load.forget(1)
    elif how == "cache_clear":
        load.cache_clear()
    else:
        cache.clear()
    assert load(1) == "new"  # it neither waits for the old one nor gets it
    go_on.set()
    joined(thread)
    assert told == ["old"]
    assert load(1) == "new"


def test_what_is_forgotten_while_a_task_makes_it_is_not_kept():
    source = ["old"]

    async def main():
        begun, go_on = asyncio.Event(), asyncio.Event()

        @Cache(10).memoize()
        async def load(key):
            found = source[0]
            if found == "old":
                begun.set()
                await go_on.wait()
            return found

        first = asyncio.create_task(load(1))
        await begun.wait()
        source[0] = "new"
        load.forget(1)
        assert await asyncio.wait_for(load(1), 60) == "new"
        go_on.set()
        assert await first == "old"
        assert await load(1) == "new"

    asyncio.run(main())


def test_results_that_the_cache_does_not_hold_run_once_for_all_who_wait():
    calls = []

    @Cache(10, getsizeof=len).memoize()
    async def large(key):
        calls.append(key)
        await asyncio.sleep(0.01)
        return "x" * 100

    async def main():
        return await asyncio.gather(*(large(1) for _ in range(10)))

    assert asyncio.run(main()) == ["x" * 100] * 10
    assert calls == [1]


def test_event_loops_of_several_threads_wait_for_each_other():
    calls, entered = [], threading.Barrier(3, timeout=60)

    @Cache(10).memoize()
    async def slow(key):
        calls.append(key)
        await asyncio.sleep(0.1)
        if key < 0:
            raise ValueError(key)
        return key * 2

    def loop(key):
        async def main():
            entered.wait()
            return await asyncio.gather(*(slow(key) for _ in range(3)), return_exceptions=True)

        return asyncio.run(main())

    for key in (4, -4):
        threads, told = zip(*(in_thread(loop, key) for _ in range(3)), strict=True)
        joined(*threads)
        found = [one for answers in told for one in answers[0]]
        if key > 0:
            assert found == [8] * 9
        else:
            assert {type(one) for one in found} == {ValueError}
    assert calls == [4, -4]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_waits_takes_over_when_the_maker_is_interrupted(kind):
    begun, go_on, calls = threading.Event(), threading.Event(), []

    @Cache(10).memoize()
    def slow(key):
        calls.append(key)
        if len(calls) == 1:
            begun.set()
            assert go_on.wait(60)
            raise kind
        return "made"

    first, told_first = in_thread(slow, 1)
    assert begun.wait(60)
    others = [in_thread(slow, 1) for _ in range(4)]
    go_on.set()
    joined(first, *(thread for thread, _ in others))
    assert isinstance(told_first[0], kind)
    assert [told for _, told in others] == [["made"]] * 4
    assert len(calls) == 2


def test_circles_begun_from_both_ends_do_not_hang():
    both = threading.Barrier(2, timeout=60)
    cache = Cache(10)

    @cache.memoize()
    def one(depth):
        if depth:
            both.wait()
        return two(0)

    @cache.memoize()
    def two(depth):
        if depth:
            both.wait()
        return one(0)

    # one(0) needs two(0), which needs one(0); and the other way round, at the same time.
    first, told_first = in_thread(one, 1)
    second, told_second = in_thread(two, 1)
    joined(first, second)
    assert {type(told) for told in told_first + told_second} == {InvalidRequest}


def test_a_circle_that_is_none_when_it_is_computed_gives_its_value():
    cache, both, local = Cache(10), threading.Barrier(2, timeout=60), threading.local()

    def is_first():
        if getattr(local, "deep", False):
            return False
        local.deep = True
        both.wait()
        return True

    @cache.memoize()
    def one():
        return two() + 1 if is_first() else 1

    @cache.memoize()
    def two():
        return one() + 1 if is_first() else 1

    first, told_first = in_thread(one)
    second, told_second = in_thread(two)
    joined(first, second)
    assert {*told_first, *told_second} <= {2, 3}


def test_tasks_that_need_each_other_do_not_hang():
    async def main():
        cache, met = Cache(10), asyncio.Event()

        @cache.memoize()
        async def one():
            await met.wait()
            return (await asyncio.gather(two()))[0]  # in a task of its own

        @cache.memoize()
        async def two():
            met.set()
            return (await asyncio.gather(one()))[0]

        found = await asyncio.wait_for(asyncio.gather(one(), two(), return_exceptions=True), 60)
        assert {type(error) for error in found} == {InvalidRequest}

    asyncio.run(main())


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


def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have():
    begun, go_on = threading.Event(), threading.Event()
    made_in = os.getpid()

    @Cache(10).memoize()
    def slow():
        if os.getpid() == made_in:
            begun.set()
            assert go_on.wait(60)
        return os.getpid()

    thread, told = in_thread(slow)
    assert begun.wait(60)
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(0 if slow() == os.getpid() else 1)
    )
    child.start()
    child.join(60)
    go_on.set()
    joined(thread)
    assert (child.exitcode, told) == (0, [made_in])


def test_a_signal_handler_and_a_finalizer_may_call_what_is_memoized():
    cache, seen = Cache(10), []

    @cache.memoize()
    def make(key):
        if key == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
            Cyclic()
            gc.collect()
        return key

    class Cyclic:
        def __init__(self):
            self.me = self

        def __del__(self):
            seen.append(make(2))
            make.forget(1)

    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(make(3)))
    try:
        assert make(1) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [3, 2]
    assert len(cache) == 2  # the first was forgotten while it was made


def test_an_interrupt_at_any_line_leaves_nobody_waiting():
    """An exception at each line that runs in the package while a value is made."""
    lines, wanted = [0], [0]

    def trace(frame, event, arg):
        if "kvengine" not in frame.f_code.co_filename or "tests" in frame.f_code.co_filename:
            return None
        if event == "line":
            lines[0] += 1
            if lines[0] == wanted[0]:
                raise KeyboardInterrupt
        return trace

    for point in range(1, 60):
        cache = Cache(10)
        slow = cache.memoize()(lambda key: key * 2)
        lines[0], wanted[0] = 0, point
        sys.settrace(trace)
        try:
            slow(4)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        thread, told = in_thread(slow, 4)
        joined(thread)
        assert told == [8]
        if lines[0] < point:
            break
    assert 5 < point < 59
