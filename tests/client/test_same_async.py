"""What a call of kvengine.aio over the network gives, or raises, is what it does in one process."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest

import kvengine
import kvengine.aio
from tests.client.test_same import CALLS, outcome, plain, prepare, titles
from tests.server.running import TOKEN

# Of a dict, or of an iterator that checks its arguments before it is asked for the first item.
SYNC_ONLY = {
    "contains", "delete an absent item", "delete an item", "item", "item absent", "items many",
    "keys after a number", "keys of a number", "pairs", "popitem", "popitem of none",
    "put if absent", "set an item", "set nothing", "setdefault", "setdefault many",
    "setdefault nothing", "update", "update a number", "watch a number",
}  # fmt: skip


class Awaited:
    """An object of kvengine.aio whose methods wait, so that the calls of the sync tests fit."""

    def __init__(self, inner, loop):
        self._inner, self._loop = inner, loop

    def __getattr__(self, name):
        def call(*args, **named):
            found = getattr(self._inner, name)(*args, **named)
            if inspect.isasyncgen(found):
                return self._items(found)
            return self._shown(self._loop.run_until_complete(found))

        return call() if name == "title" else call

    def _shown(self, found):
        if isinstance(found, kvengine.aio.ValueStream):
            return Awaited(found, self._loop)
        if isinstance(found, kvengine.ValueWithMetadata):
            return found._replace(value=self._shown(found.value))
        if isinstance(found, dict):
            return {key: self._shown(value) for key, value in found.items()}
        return found

    def _items(self, found):
        while (item := self._loop.run_until_complete(anext(found, None))) is not None:
            yield item


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture(scope="module")
def awaited(server, loop) -> Iterator[Awaited]:
    db = kvengine.aio.connect(server.url, token=TOKEN)
    yield Awaited(db, loop)
    loop.run_until_complete(db.close())


def everything(namespace):
    keys = list(namespace.keys())
    return [(key, plain(namespace.get_with_metadata(key, "bytes"))) for key in keys]


@pytest.mark.parametrize("name", sorted(CALLS.keys() - SYNC_ONLY))
def test_a_call_does_the_same(server, awaited, loop, name):
    title = next(titles)
    with kvengine.Database.in_memory(limits=server.db.limits) as own:
        here = prepare(own.namespace(title))
        there = prepare(Awaited(awaited.namespace(title), loop))
        assert outcome(there, CALLS[name]) == outcome(here, CALLS[name])
        assert outcome(there, everything) == outcome(here, everything)
