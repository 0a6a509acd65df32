"""Answers of a server that go on and on, for asyncio.

Invariants:

* Each stream has a connection of its own, which is closed when its reader leaves, or is cancelled;
  no thread waits for it.
* Who follows changes goes on after a break: each change once, in order, none left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from kvengine.client.connection import ERROR_BYTES_MAX
from kvengine.client.database import SILENCE_S, Place
from kvengine.client.items import Items
from kvengine.client.libraries import needed
from kvengine.client.packing import pack
from kvengine.errors import ProtocolError, RateLimited, UpstreamUnavailable

if TYPE_CHECKING:
    from kvengine.aio.remote import RemoteDatabase


async def streamed(
    database: RemoteDatabase, path: str, args: list[Any], named: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    """Yield what a call gives bit by bit.

    Raises:
        KvError: the one that the call raised, or UpstreamUnavailable.
    """
    await database._runner.run(database._inner._meet)
    async with aclosing(_items(database._inner._connection, path, args, named)) as found:
        async for item in found:
            if item is not None:
                yield item


async def followed(
    database: RemoteDatabase,
    path: str,
    named: dict[str, Any],
    after: int,
    timeout: float | None,
    at: int,
) -> AsyncGenerator[Any, None]:
    """Yield changes; connect again when that breaks.

    Args:
        database: whose.
        path, named: the call.
        after: begin behind this version.
        timeout: end when nothing came for so many seconds.
        at: which field of an item is its version.
    """
    await database._runner.run(database._inner._meet)
    place, connection = Place(after, timeout, at), database._inner._connection
    has_begun = False  # errors of the first attempt are raised
    while True:
        try:
            items = _items(connection, path, [], {**named, "after": place.after})
            async with aclosing(items) as found:
                async for item in found:
                    has_begun = True
                    database._inner._check_usable()  # at each heartbeat
                    if place.passes(item):
                        yield item
                        place.heard = time.monotonic()
                    elif place.is_over:
                        return
        except (UpstreamUnavailable, RateLimited) as error:
            if not has_begun:
                raise
            database._inner._check_usable()
            await asyncio.sleep(place.pause_after(error))
        if place.is_over:
            return


async def _items(
    connection: Any, path: str, args: list[Any], named: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    """Yield the items of one connection; None is a heartbeat."""
    http, items = needed("httpx"), Items()
    request = {"content": pack([args, named]), "timeout": SILENCE_S}
    try:
        async with (
            connection.async_client() as client,
            client.stream("POST", f"{connection.url}/v1/{path}", **request) as response,
        ):
            if response.status_code != 200:
                raise connection.refusal(response, await _start_of(response))
            connection.check_store(response)
            async for piece in response.aiter_raw():
                for item in items.feed(piece):
                    yield item
                if items.ended:
                    return
    except (http.HTTPError, http.StreamError, OSError) as error:
        raise connection.failure(error) from error
    except ProtocolError as error:
        raise UpstreamUnavailable(f"the stream broke off: {error}") from error
    raise UpstreamUnavailable("the stream broke off: it ends too early")


async def _start_of(response: Any) -> bytes:
    found = bytearray()
    async for piece in response.aiter_raw():
        found += piece
        if len(found) > ERROR_BYTES_MAX:
            break
    return bytes(found)
