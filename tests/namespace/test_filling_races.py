"""get_or_set and memoize while somebody puts, deletes or forgets: here, at an edge, remotely."""

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

import kvengine.aio
from kvengine import Database, Edge, InvalidRequest, InvalidType
from kvengine.namespace.interface.call_keys import CallKeys, encoded
from tests.server.running import TOKEN, running


@pytest.fixture(scope="module")
def server():
    with running() as found:
        yield found


@pytest.fixture(params=["local", "edge", "remote"])
def both(request, server):
    """A namespace, and another object for the same one: somebody else's."""
    mine: Any
    theirs: Any
    with contextlib.ExitStack() as stack:
        if request.param == "remote":
            mine = stack.enter_context(kvengine.connect(server.url, token=TOKEN))
            theirs = stack.enter_context(kvengine.connect(server.url, token=TOKEN))
        else:
            mine = theirs = stack.enter_context(Database.in_memory())
            if request.param == "edge":
                mine = stack.enter_context(Edge(theirs, name="fra"))
        title = f"races {os.urandom(4).hex()}"
        yield mine.namespace(title), theirs.namespace(title)


def test_a_put_while_the_value_is_made_stays_and_is_returned(both):
    kv, other = both

    def make():
        other.put("k", "put by somebody else")
        return "made"

    assert kv.get_or_set("k", make) == "put by somebody else"
    assert other.get("k") == "put by somebody else"


def test_an_edge_that_does_not_know_of_a_value_overwrites_nothing():
    with Database.in_memory() as db, Edge(db, name="fra") as edge:
        kv, primary = edge.namespace("n"), db.namespace("n")
        assert kv.get("k") is None
        primary.put("k", "new")
        assert kv.get_or_set("k", lambda: "made") == "new"
        assert primary.get("k") == "new"


def test_a_memoized_call_does_not_overwrite_a_put(both):
    kv, other = both

    @kv.memoize(key=lambda n: f"n{n}")
    def made(n):
        other.put(f"n{n}", '"put"')
        return "made"

    assert made(1) == made(1) == "put"


@pytest.mark.parametrize("how", ["delete", "delete_many", "delete_prefix"])
def test_a_delete_while_the_value_is_made_stays(both, how):
    kv, other = both

    def make():
        other.put("k", "old")
        if how == "delete":
            kv.delete("k")
        elif how == "delete_many":
            kv.delete_many(["k"])
        else:
            kv.delete_prefix("k")
        return "made before the delete"

    assert kv.get_or_set("k", make) == "made before the delete"
    assert other.get("k") is None
    assert kv.get_or_set("k", lambda: "after") == "after"


def test_what_is_forgotten_is_neither_stored_nor_joined(both):
    kv, _ = both
    begun, go_on, source = threading.Event(), threading.Event(), ["old"]

    @kv.memoize()
    def load(n):
        found = source[0]
        if found == "old":
            begun.set()
            assert go_on.wait(60)
        return found

    told = []
    thread = threading.Thread(target=lambda: told.append(load(1)))
    thread.start()
    assert begun.wait(60)
    source[0] = "new"
    load.forget(1)
    assert load(1) == "new"
    go_on.set()
    thread.join(60)
    assert told == ["old"]  # it asked before
    assert load(1) == "new"


def test_the_async_face_keeps_puts_and_deletes_too():
    async def main():
        async with kvengine.aio.Database.in_memory() as db:
            kv = await db.namespace("n")

            async def put():
                await kv.put("k", "put")
                return "made"

            async def delete():
                await kv.put("gone", "put")
                await kv.delete("gone")
                return "made"

            assert await kv.get_or_set("k", put) == await kv.get("k") == "put"
            assert await kv.get_or_set("gone", delete) == "made"
            assert await kv.get("gone") is None
            source, begun, go_on = ["old"], asyncio.Event(), asyncio.Event()

            @kv.memoize()
            async def load(n):
                found = source[0]
                if found == "old":
                    begun.set()
                    await go_on.wait()
                return found

            first = asyncio.create_task(load(1))
            await begun.wait()
            source[0] = "new"
            await load.forget(1)  # type: ignore[attr-defined]
            assert await asyncio.wait_for(load(1), 60) == "new"
            go_on.set()
            assert await first == "old"  # it asked before
            assert await load(1) == "new"

    asyncio.run(main())


def test_threads_and_tasks_wait_for_the_same_flight():
    calls = []

    async def main():
        async with kvengine.aio.Database.in_memory() as db:
            kv = await db.namespace("n")

            async def make():
                calls.append(1)
                await asyncio.sleep(0.1)
                return "made"

            tasks = [asyncio.create_task(kv.get_or_set("k", make)) for _ in range(3)]
            while not calls:
                await asyncio.sleep(0.001)
            inner = kv._inner
            found = await asyncio.gather(
                *tasks, asyncio.to_thread(inner.get_or_set, "k", lambda: "made twice")
            )
            assert found == ["made"] * 4

    asyncio.run(main())
    assert calls == [1]


# -- keys of calls


def test_lambdas_closures_methods_and_partials_do_not_share_results():
    def times(number):
        return lambda value: value * number

    class Account:
        def __init__(self, name):
            self.name = name

        def balance(self, year):
            return [self.name, year]

    def configured(config):
        def rate(value):
            return value * config["rate"]

        return rate

    with Database.in_memory() as db:
        kv = db.namespace("n")
        double, triple = kv.memoize()(lambda n: n * 2), kv.memoize()(lambda n: n * 3)
        assert (double(2), triple(2)) == (4, 6)
        four, five = kv.memoize()(times(4)), kv.memoize()(times(5))
        assert (four(2), five(2)) == (8, 10)
        ada, eve = (kv.memoize()(Account(name).balance) for name in ("Ada", "Eve"))
        assert (ada(1), eve(1)) == (["Ada", 1], ["Eve", 1])
        low, high = (kv.memoize()(configured({"rate": rate})) for rate in (1, 7))
        assert (low(1), high(1)) == (1, 7)
        first, second = (kv.memoize()(functools.partial(pow, base)) for base in (2, 3))
        assert (first(2), second(2)) == (4, 9)


def test_arguments_of_other_types_or_values_have_other_keys():
    different = [
        1, 1.0, True, "1", b"1", None, "", b"", "None", [1, 2], (1, 2), [[1], 2], [1, [2]],
        {1: "a"}, {"1": "a"}, {1.0: "a"}, {}, [], (), ["1, 2"], [1, 2, ""], -0.0, 0.0, 0, "0",
        False, "b\"1\"",
        {"a": 1, "b": 2}, {"a": 2, "b": 1}, "é", "\ud800", [None], 2**64, float(2**64),
    ]  # fmt: skip
    keys = [encoded(value) for value in different]
    assert len(set(keys)) == len(keys)
    assert encoded({"a": 1, "b": 2}) == encoded({"b": 2, "a": 1})
    keys = [CallKeys(lambda x: x, None, 512, "f").key_of((value,), {}) for value in different]
    assert len(set(keys)) == len(keys)


def test_what_no_key_can_be_made_of_is_an_error_that_says_what_to_do():
    loop = []
    loop.append(loop)
    keys = CallKeys(lambda x: x, None, 512)
    for value in ({1, 2}, object(), float("nan"), float("inf"), loop, {(1,): object()}):
        with pytest.raises(InvalidType, match="pass key= to memoize"):
            keys.key_of((value,), {})
    with pytest.raises(InvalidType, match="name must be a str"):
        CallKeys(len, None, 512, 5)
    with pytest.raises(InvalidRequest, match="lone surrogate at index 1"):
        CallKeys(len, None, 512, "a\ud800")
    with pytest.raises(InvalidRequest, match="name must have 1 to 256 bytes"):
        CallKeys(len, None, 512, "")


MODULE = """
import sys
from kvengine.namespace.interface.call_keys import CallKeys
def plain(a): return a
def inner(n):
    def f(a): return a * n
    return f
class Thing:
    @staticmethod
    def static(a): return a
    @classmethod
    def made(cls, a): return a
for f in (plain, inner(2), inner(3), lambda a: a, Thing.static, Thing.made):
    print(CallKeys(f, None, 512).key_of((), {"a": 1}))
"""


def test_names_are_the_same_in_every_process(tmp_path):
    (tmp_path / "module_of_test.py").write_text(MODULE)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", "import module_of_test"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    names = outputs.pop().split("\n")[:-1]
    assert len(set(names)) == 6
    assert names[0] == "module_of_test.plain:[1]"
    assert names[4] == "module_of_test.Thing.static:[1]"


def test_a_name_of_ones_own():
    with Database.in_memory() as db:
        kv = db.namespace("n")
        assert kv.memoize(name="square")(lambda n: n * n)(3) == 9
        assert [info.name for info in kv.list().keys] == ["square:[3]"]
        assert kv.memoize(name="square")(lambda n: 0)(3) == 9  # shared on purpose
