"""Requests to a server from an event loop: what it answers, or an error of kvengine.

Invariants:

* Errors, limits and timeouts are those of client/endpoint.py.
* No thread waits for an answer.  Cancelling a task ends its request: the connection is closed.
* A connection serves one request at a time, and is reused only after a response was read to its
  end.
* A connection stays in the event loop that created it.  A forked child creates its own, and only
  closes its copies of the parent's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from kvengine.client.connection import of_parents, take_locks_away
from kvengine.client.endpoint import (
    ANSWER_BYTES_MAX,
    ERROR_BYTES_MAX,
    IDLE_MAX,
    IDLE_S,
    Endpoint,
    add_piece,
    answer_of,
)
from kvengine.client.packing import pack
from kvengine.errors import UpstreamUnavailable
from kvengine.file.system import fork_watch, process_id, run_fork_hooks

CALLS_MAX = 32  # under way at once, in one event loop; the others wait


class _Pool:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.idle: deque[tuple[Any, float]] = deque()  # transports, and when they were used
        self.calls = asyncio.Semaphore(CALLS_MAX)
        self.sockets: dict[int, Any] = {}  # by the id of the transport
        self.end = self._until_the_end()

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        """Close the idle connections when the loop ends its generators, or nobody has this."""
        try:
            yield
        finally:
            await self.drop(0, 0)

    async def drop(self, most: int, oldest: float) -> None:
        """Close idle connections: those above a number, and those last used before a moment."""
        while self.idle and (len(self.idle) > most or self.idle[0][1] < oldest):
            await self.discard(self.idle.popleft()[0])

    async def discard(self, transport: Any) -> None:
        """Close a connection; the library does so before it waits for anything."""
        self.sockets.pop(id(transport), None)
        with contextlib.suppress(Exception):  # whatever it says, it is gone
            await transport.aclose()


class AsyncConnection:
    """Connections to a server.

    Args:
        endpoint: the server.

    Thread-safety: for one event loop at a time.  In a forked child it works, in its event loop.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._closed = endpoint, False
        self._begin()
        fork_watch(self, AsyncConnection._after_fork)

    def _begin(self) -> None:
        self._process = process_id()
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    def _after_fork(self) -> None:
        pools = [*self._pools.items()]  # with their event loops: they share an epoll of the parent
        of_parents.append(pools)
        for _, pool in pools:
            for found in pool.sockets.values():
                with contextlib.suppress(OSError, AttributeError):
                    found._sock.close()  # the copy of this process: the parent's stays open
        self._begin()

    async def _pool(self) -> _Pool:
        if self._process != process_id():  # forked by a program that does not tell Python
            run_fork_hooks(lambda: self._process == process_id())
        loop = asyncio.get_running_loop()
        found = self._pools.get(loop)
        if found is None:
            for old in [one for one in self._pools if one.is_closed()]:
                del self._pools[old]
            found = self._pools[loop] = _Pool()
            await anext(found.end)  # the loop knows it now
        return found

    async def call_at(self, path: str, arguments: Any, timeout: float | None) -> tuple[Any, int]:
        """Return what a call gives, and the server's newest version after it (0: not said).

        Raises:
            KvError: the one that it raised there, or UpstreamUnavailable.
        """
        body = pack(arguments)
        pool = await self._pool()
        async with pool.calls, self.answer("POST", path, body, timeout) as response:
            data = await _all_of(response, ANSWER_BYTES_MAX)
        return answer_of(response, data)

    @contextlib.asynccontextmanager
    async def answer(
        self, method: str, path: str, body: bytes, timeout: float | None, *, new: bool = False
    ) -> AsyncIterator[Any]:
        """Give an answer; with `new`, over a connection of its own."""
        if self._closed:
            raise UpstreamUnavailable("the connection was closed")
        endpoint, pool, is_whole = self._endpoint, await self._pool(), False
        if new or not pool.idle:
            transport = endpoint.http.AsyncHTTPTransport(**endpoint.transport_options)
            take_locks_away(transport)
        else:
            transport = pool.idle.pop()[0]
        try:
            request = endpoint.request(method, path, body, timeout)
            with endpoint.failures():
                response = await transport.handle_async_request(request)
                self._note_socket(pool, transport, response)
                if response.status_code != 200:
                    said = await _all_of(response, ERROR_BYTES_MAX)
                    is_whole = True
                    raise endpoint.refusal(response, said)
                endpoint.check_store(response)
                yield response
            is_whole = True
        finally:
            if is_whole and not new:
                pool.idle.append((transport, time.monotonic()))
                await pool.drop(0 if self._closed else IDLE_MAX, time.monotonic() - IDLE_S)
            else:
                await pool.discard(transport)

    def _note_socket(self, pool: _Pool, transport: Any, response: Any) -> None:
        network = response.extensions.get("network_stream")
        found = None if network is None else network.get_extra_info("socket")
        if found is not None:
            pool.sockets[id(transport)] = found

    async def close(self) -> None:
        """Close the connections that nobody uses; the others are closed by those who use them."""
        self._closed = True
        await (await self._pool()).drop(0, 0)


async def _all_of(response: Any, most: int) -> bytes:
    found = bytearray()
    async for piece in response.aiter_raw():
        add_piece(found, piece, most)
    return bytes(found)
