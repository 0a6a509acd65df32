"""Answers that go on: what a thread makes, sent as it comes.

Invariants:

* The thread waits while the client takes nothing: a few pieces are held, no more.
* When the client is gone, or the server stops, the thread ends before the answer does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor

from kvengine.server.admission import LOGS_MAX, WATCHES_MAX
from kvengine.server.messages import Request

PIECES_HELD = 4
# Threads begin when they are needed; Admission lets in as many streams as there are threads.
WATCH_EXECUTOR = ThreadPoolExecutor(WATCHES_MAX, thread_name_prefix="kvengine-watch")
LOG_EXECUTOR = ThreadPoolExecutor(LOGS_MAX, thread_name_prefix="kvengine-log")

Write = Callable[[bytes], None]


class Ended(Exception):
    """Nobody takes what is written any more."""


async def until(request: Request, stopping: asyncio.Event) -> None:
    """Return when the client is gone, or sends no more, or the server stops."""
    ends = (request.left(), request.ended(), stopping.wait())
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
    """Yield what `make`, on a thread of its own, writes.

    Args:
        make: is given a function that takes bytes, and raises Ended when it should end; it must
            write every few seconds, or it is not noticed that the client is gone.
        request, stopping: when to end.
        executor: has a thread for each of its kind.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES_HELD)
    ended = threading.Event()

    def write(data: bytes) -> None:
        if ended.is_set():
            raise Ended
        asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()

    def run() -> None:
        try:
            make(write)
        except Ended:
            pass
        finally:
            if not ended.is_set():
                asyncio.run_coroutine_threadsafe(queue.put(None), loop)

    thread = loop.run_in_executor(executor, run)
    gone = asyncio.ensure_future(until(request, stopping))
    try:
        while not gone.done():
            taken = asyncio.ensure_future(queue.get())
            await asyncio.wait([taken, gone], return_when=asyncio.FIRST_COMPLETED)
            if not taken.done():
                taken.cancel()
                break
            piece = taken.result()
            if piece is None:
                break
            yield piece
    finally:
        ended.set()
        gone.cancel()
        while not thread.done():  # it may wait to put a piece
            while not queue.empty():
                queue.get_nowait()
            await asyncio.wait([thread], timeout=0.02)
        thread.result()
