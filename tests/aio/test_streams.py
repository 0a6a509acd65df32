"""Values come and go as async streams, whole or not at all."""

import asyncio

import pytest

import kvengine.aio
from kvengine import InvalidType, LimitExceeded
from tests.aio.running import run
from tests.server.running import TOKEN, running


def test_streams_in_and_out():
    async def test(db):
        kv = await db.namespace("a")

        async def pieces():
            for number in range(10):
                yield b"%d" % number * 1000

        class Reader:
            def __init__(self, data):
                self.data = data

            async def read(self, size):
                piece, self.data = self.data[:size], self.data[size:]
                return piece

        expected = b"".join(b"%d" % number * 1000 for number in range(10))
        await kv.put("a", pieces())
        await kv.put("b", Reader(expected))
        for key in "ab":
            stream = await kv.get(key, "stream")
            assert len(stream) == len(expected)
            assert await stream.read(5) == b"00000"
            assert b"".join([piece async for piece in stream]) == expected[5:]
            assert await stream.read() == b""
        found = await kv.get_with_metadata("a", "stream")
        assert await found.value.read() == expected
        assert set(await kv.get(["a", "none"], "stream")) == {"a", "none"}
        assert await kv.get("none", "stream") is None

    run(test)


def test_a_stream_that_fails_or_is_too_long_writes_nothing():
    async def test(db):
        kv = await db.namespace("a")
        before = db.version

        async def failing():
            yield b"x"
            raise OSError("gone")

        async def endless():
            while True:
                yield bytes(1 << 20)

        async def text():
            yield "x"

        for stream, error in ((failing, OSError), (endless, LimitExceeded), (text, InvalidType)):
            with pytest.raises(error):
                await kv.put("k", stream())
        assert db.version == before

    run(test)


@pytest.mark.parametrize("kind", ["here", "edge", "remote"])
def test_add_takes_a_stream_and_pop_gives_one(kind):
    async def pieces():
        yield b"ab"
        yield b"cd"

    async def use(of):
        kv = await of.namespace("a")
        assert await kv.add("k", pieces())
        assert not await kv.add("k", pieces())
        stream = await kv.pop("k", type="stream")
        assert await stream.read(3) == b"abc"
        assert [piece async for piece in stream] == [b"d"]
        assert await kv.pop("k", None, type="stream") is None

    async def edge(db):
        async with kvengine.aio.Edge(db) as of:
            await use(of)

    async def remote(url):
        async with kvengine.aio.connect(url, token=TOKEN) as of:
            await use(of)

    if kind == "remote":
        with running(limits="relaxed") as server:
            asyncio.run(remote(server.url))
    else:
        run(use if kind == "here" else edge)
