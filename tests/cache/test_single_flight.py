"""SingleFlight: what is forgotten, interrupted, recursive, or wanted by other event loops."""

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import threading

import pytest

from kvengine import Cache, InvalidRequest


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
