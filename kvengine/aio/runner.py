"""The threads on which an async database does what may block.

Invariants:

* A call that a thread has begun runs to its end, even if no task waits for it any more.
* close() returns when no call is under way any more, also if another close() is at it; later calls
  are refused.
* A forked child has threads of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from kvengine.errors import StoreClosed
from kvengine.file.system import fork_watch

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 16  # that many writers can share one sync
ITEMS_AT_ONCE = 256


class Runner:
    """A few threads, and the calls on them.

    Thread-safety: for one event loop at a time.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._threads, self._closed = threads, False
        self._begin()
        fork_watch(self, Runner._begin)

    def _begin(self) -> None:
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="kvengine-aio")
        self._running: set[Future[Any]] = set()
        self._last: Future[None] | None = None  # the last call

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a call returns on one of the threads.

        Raises:
            StoreClosed: close() was called.
        """
        if self._closed:
            raise StoreClosed("the database is closed")
        future = self._executor.submit(call, *args, **kwargs)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    async def iterate(self, begin: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """Yield what an iterator gives that may block; it is asked for many items at once."""
        source = await self.run(begin)
        while items := await self.run(lambda: list(islice(source, ITEMS_AT_ONCE))):
            for item in items:
                yield item

    async def close(self, last: Callable[[], None]) -> None:
        """Wait for what is under way, then make one last call."""
        if self._last is None:
            self._closed = True
            running = set(self._running)

            def finish() -> None:
                wait(running)
                last()

            self._last = self._executor.submit(finish)
            self._executor.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(self._last))


def reply() -> tuple[asyncio.Future[Any], Callable[[Any], None]]:
    """Return a future of this event loop, and what gives it its result, from any thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def end(result: Any) -> None:
        if not future.done():  # the task that waits may have been cancelled
            future.set_result(result)

    def done(result: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(end, result)

    return future, done


def forwarded(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return the async form of the method of this name of `_inner`, called on `_runner`."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._runner.run(getattr(self._inner, name), *args, **kwargs)
        return result

    call.__doc__ = inspect.getdoc(method)  # also if it is written in a base
    return cast("Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]", call)
