"""Stream answers that a thread produces.

Invariants:

* The thread waits while the client does not read.  The answer buffers a few small pieces, or a
  large piece and the next one.  They count as memory of the token; if it has too much, the answer
  ends.
* If the client disconnects, its token is revoked, or the server stops, the thread ends before the
  answer does.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol, TypeVar

from kvengine.errors import UpstreamUnavailable
from kvengine.server.auth.access import Refused
from kvengine.server.http.admission import LOGS_MAX, MEMORY, WATCHES_MAX
from kvengine.server.http.messages import PIECE_BYTES, Request, in_pieces

# Threads start on demand; Admission permits as many streams as there are threads.
WATCH_EXECUTOR = ThreadPoolExecutor(WATCHES_MAX, thread_name_prefix="kvengine-watch")
LOG_EXECUTOR = ThreadPoolExecutor(LOGS_MAX, thread_name_prefix="kvengine-log")
T = TypeVar("T")


class Write(Protocol):
    """Writes the bytes of an answer."""

    def __call__(self, data: bytes) -> None:
        """Write a piece; wait until there is room for it."""

    def reserve(self, count: int) -> None:
        """Reserve memory for the next piece and its parts, before they are made."""

    def hold(self, count: int) -> None:
        """Reserve memory for the data that was read, and release that of the data before it."""

    @property
    def making(self) -> AbstractContextManager[object]:
        """A context to hold while reading data of unknown size."""


class Ended(Exception):
    """The answer has ended; nothing more is sent."""


class Pieces:
    """Pieces on their way from a thread to a client.

    Args:
        request: that they answer.

    Thread-safety: for one event loop.
    """

    def __init__(self, request: Request) -> None:
        self._request, self.making = request, request.making()
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._bytes, self._is_last, self._read = 0, False, 0
        self._changed = asyncio.Condition()

    async def reserve(self, count: int) -> str | None:
        """Reserve memory of the token; return the reason if there is not enough.

        An exception would, through its traceback, keep alive the data that the thread has read.
        """
        try:
            self._request.take(MEMORY, count)
        except Refused as refused:
            return refused.why
        return None

    async def hold(self, count: int) -> str | None:
        """Reserve memory for the data that was read, and release the last hold(); see reserve()."""
        before, self._read = self._read, 0
        if before:
            self._request.return_some(MEMORY, before)
        why = await self.reserve(count)
        if why is None:
            self._read = count
        return why

    async def put(self, data: bytes, reserved: int) -> None:
        """Add a piece with its reserved memory, when there is room for it."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._bytes or self._bytes + len(data) <= PIECE_BYTES
            )
            self._pieces.append((data, reserved))
            self._bytes += len(data)
            self._changed.notify_all()

    async def end(self) -> None:
        """Mark the end of the pieces."""
        async with self._changed:
            self._is_last = True
            self._changed.notify_all()

    async def take(self) -> tuple[bytes, int] | None:
        """Return the next piece and its reserved memory; None: there are no more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pieces or self._is_last)
            return self._pieces.popleft() if self._pieces else None

    async def taken(self, data: bytes, reserved: int) -> None:
        """Release a piece that was sent."""
        self._request.return_some(MEMORY, reserved)
        async with self._changed:
            self._bytes -= len(data)
            self._changed.notify_all()

    async def drop(self) -> None:
        """Drop all pieces, so that the thread does not wait."""
        async with self._changed:
            self._pieces.clear()
            self._bytes = 0
            self._changed.notify_all()


class Writing:
    """Writes the pieces of a thread.

    Args:
        held: receives the pieces.
        loop: of the answer.
        ended: set when the answer has ended.

    Thread-safety: for one thread.
    """

    def __init__(
        self, held: Pieces, loop: asyncio.AbstractEventLoop, ended: threading.Event
    ) -> None:
        self._held, self._loop, self._ended, self._reserved = held, loop, ended, 0
        self._holds, self.making = 0, held.making

    def reserve(self, count: int) -> None:
        """Reserve memory for the next piece; small pieces need none.

        Raises:
            Ended: the answer has ended.
            UpstreamUnavailable: the token has too much in memory.
        """
        if count > PIECE_BYTES:
            self._take(self._held.reserve(count))
            self._reserved += count

    def hold(self, count: int) -> None:
        """Reserve memory for data that was read; small data needs none.

        Raises:
            Ended, UpstreamUnavailable: as for reserve().
        """
        count = count if count > PIECE_BYTES else 0
        if count or self._holds:
            self._take(self._held.hold(count))
            self._holds = count

    def _take(self, coming: Coroutine[Any, Any, str | None]) -> None:
        why = self._wait_for(coming)
        if why is not None:
            raise UpstreamUnavailable(f"the client reads too slowly: {why}")

    def __call__(self, data: bytes) -> None:
        """Write a piece; wait until there is room for it.

        Raises:
            Ended, UpstreamUnavailable: as for reserve().
        """
        if not self._reserved:
            self.reserve(len(data))
        reserved, self._reserved = self._reserved, 0
        self._wait_for(self._held.put(data, reserved))

    def _wait_for(self, coming: Coroutine[Any, Any, T]) -> T:
        if self._ended.is_set():
            coming.close()
            raise Ended
        return asyncio.run_coroutine_threadsafe(coming, self._loop).result()


async def until(request: Request, stopping: asyncio.Event) -> None:
    """Wait until the client disconnects or half-closes, its token ends, or the server stops."""
    ends = (request.left(), request.ended(), request.revoked(), stopping.wait())
    waits = [asyncio.ensure_future(one) for one in ends]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()


async def written(
    make: Callable[[Write], None],
    request: Request,
    stopping: asyncio.Event,
    executor: ThreadPoolExecutor = WATCH_EXECUTOR,
) -> AsyncGenerator[bytes, None]:
    """Yield what `make` writes on its own thread.

    Args:
        make: called with a Write, which raises Ended when the answer has ended, or
            UpstreamUnavailable if too much is buffered.  It must write every few seconds, to
            notice that the client is gone or its token is revoked.
        request, stopping: end the answer.
        executor: has a thread for each stream.
    """
    loop = asyncio.get_running_loop()
    held = Pieces(request)
    ended = threading.Event()

    def run() -> None:
        try:
            make(Writing(held, loop, ended))
        except Ended:
            pass
        finally:
            if not ended.is_set():
                asyncio.run_coroutine_threadsafe(held.end(), loop)

    thread = loop.run_in_executor(executor, run)
    gone = asyncio.ensure_future(until(request, stopping))
    try:
        while not gone.done():
            coming = asyncio.ensure_future(held.take())
            await asyncio.wait([coming, gone], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming
                break
            piece = coming.result()
            if piece is None:
                break
            async for part in in_pieces(piece[0]):
                yield part
            await held.taken(*piece)
    finally:
        ended.set()
        gone.cancel()
        while not thread.done():  # it may be waiting to add a piece
            await held.drop()
            await asyncio.wait([thread], timeout=0.02)
        thread.result()
