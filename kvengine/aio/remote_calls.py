"""Calls to a server from an event loop, of which the sync classes of client/ know the meaning.

Invariants:

* Arguments are packed, and answers read, by the methods that kvengine.connect() has, too.
* A call that is cancelled ends its request.  Whether the server has carried it out is not known.
* Each stream has a connection of its own, which is closed when its reader leaves, or is cancelled.
* Following changes continues after an interruption: each change once, in order, none left out.
* close() returns when no call is under way any more; later ones are refused.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from kvengine.aio.connection import AsyncConnection
from kvengine.cache.single_flight import Flight
from kvengine.client.arguments import nothing
from kvengine.client.calls import SILENCE_S, DatabaseCalls, Place, T
from kvengine.client.endpoint import read_as
from kvengine.client.items import Items
from kvengine.client.packing import pack
from kvengine.errors import (
    NamespaceNotFound,
    ProtocolError,
    RateLimited,
    UpstreamUnavailable,
)

DELETES = frozenset(("delete", "delete_many", "delete_prefix"))


class RemoteCalls(DatabaseCalls):
    """What a sync RemoteDatabase and its namespaces ask, with awaitables for answers.

    Args:
        connection: to the server; it is closed with this.
        account: what the server's account must be; None: any.
        timeout: seconds that the server may be silent.

    Thread-safety: for one event loop at a time.
    """

    def __init__(self, connection: AsyncConnection, account: str | None, timeout: float) -> None:
        super().__init__(account, timeout)
        self._connection = connection

    def _begin(self) -> None:
        """Begin with no calls: those of a parent never end in a forked child."""
        super()._begin()
        self._under_way: set[asyncio.Future[None]] = set()
        self._fills: set[asyncio.Future[None]] = set()  # puts of what get_or_set() has made

    async def run(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Return what a sync method of client/ that has these calls gives, awaited.

        Raises:
            StoreClosed: close() was called.
        """
        await self._meet()
        found = call(*args, **named)
        return await found if inspect.isawaitable(found) else found

    async def _meet(self) -> None:
        """Raise if this can't be used; learn what arguments are checked with."""
        self._check_usable()
        if self._limits is None:
            await self._info(0)

    async def _info(self, at: int) -> Any:
        self._check_usable()
        return self._read_info((await self._connection.call_at("/v1/version", None, None))[0])[at]

    async def _call(  # type: ignore[override]
        self,
        path: str,
        args: list[Any],
        named: dict[str, Any],
        read: Callable[[Any], T],
        then: Callable[[T], object] = nothing,
    ) -> T:
        """Return what `read` makes of the answer to a call; `then` takes it before."""
        self._check_usable()
        ends = asyncio.get_running_loop().create_future()
        self._under_way.add(ends)
        try:
            if path.rpartition("/")[2] in DELETES:
                await self.fills_end()
            found, version = await self._connection.call_at(
                f"/v1/{path}", [args, named], self._timeout_of(path)
            )
        except NamespaceNotFound:
            self._forget(path)
            raise
        finally:
            self._under_way.discard(ends)
            ends.set_result(None)
        self._note_version(version)
        result = read_as(read, found)
        then(result)
        return result

    async def fill(self, flight: Flight, put: Callable[[], Awaitable[Any]]) -> None:
        """Store what get_or_set() has made, unless its key was deleted meanwhile."""
        if flight.forgotten:
            return
        ends = asyncio.get_running_loop().create_future()
        self._fills.add(ends)
        try:
            await put()
        finally:
            self._fills.discard(ends)
            ends.set_result(None)

    async def fills_end(self) -> None:
        """Wait until what is stored now has come to the server: a delete comes after it."""
        if self._fills:
            await asyncio.wait(set(self._fills))

    # -- streams

    async def _streamed(  # type: ignore[override]
        self, path: str, args: list[Any], named: dict[str, Any], read: Callable[[Any], T]
    ) -> AsyncGenerator[T, None]:
        """Yield what a call gives bit by bit."""
        await self._meet()
        async with aclosing(self._items(path, args, named)) as found:
            async for item in found:
                if item is not None:
                    yield read_as(read, item)

    async def _followed(  # type: ignore[override]
        self,
        path: str,
        named: dict[str, Any],
        after: int | None,
        timeout: float | None,
        at: int,
        read: Callable[[Any], T],
    ) -> AsyncGenerator[T, None]:
        """Yield changes; connect again when that breaks."""
        await self._meet()
        place = Place(await self._info(1) if after is None else after, timeout, at)
        has_begun = False  # errors of the first attempt are raised
        while True:
            try:
                items = self._items(path, [], {**named, "after": place.after})
                async with aclosing(items) as found:
                    async for item in found:
                        has_begun = True
                        self._check_usable()  # at each heartbeat
                        if place.passes(item):
                            yield read_as(read, item)
                            place.received_at = time.monotonic()
                        elif place.is_over:
                            return
            except (UpstreamUnavailable, RateLimited) as error:
                if not has_begun:
                    raise
                self._check_usable()
                await asyncio.sleep(place.pause_after(error))
            if place.is_over:
                return

    async def _items(
        self, path: str, args: list[Any], named: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Yield the items of one connection; None is a heartbeat."""
        items, body = Items(), pack([args, named])
        answer = self._connection.answer("POST", f"/v1/{path}", body, SILENCE_S, new=True)
        try:
            async with answer as response:
                async for piece in response.aiter_raw():
                    for item in items.feed(piece):
                        yield item
                    if items.ended:
                        return
        except ProtocolError as error:
            raise UpstreamUnavailable(f"the stream was interrupted: {error}") from error
        raise UpstreamUnavailable("the stream was interrupted: it ended too early")

    async def close(self) -> None:  # type: ignore[override]
        """Wait for the calls under way, then close the connections."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(set(self._under_way))
        await self._connection.close()
