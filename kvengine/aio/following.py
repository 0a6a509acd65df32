"""Following the log without a thread for each follower: a write wakes the event loop.

Invariants:

* As in the sync form: each change once, in order, none left out.
* A follower that waits holds nothing but its place in a list; cancelling it takes effect at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from kvengine.aio.runner import Runner
from kvengine.engine.following.tail import Tail
from kvengine.engine.parts import StoreParts
from kvengine.entry import Change


async def follow(
    runner: Runner, store: StoreParts, tail: Tail, timeout: float | None
) -> AsyncIterator[Change | None]:
    """Yield changes as they come, and None each time before waiting; see Store.follow."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with waiting(store) as news_behind:
        while True:
            async for change in runner.iterate(tail.changes):
                yield change
                if timeout is not None:
                    deadline = time.monotonic() + timeout
            yield None
            rest = None if deadline is None else deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return
            await news_behind(tail.seen, rest)


@contextlib.contextmanager
def waiting(store: StoreParts) -> Iterator[Callable[[int, float | None], Awaitable[None]]]:
    """Give a call that waits, for some seconds at the most, until a store is behind a version."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(woken.set)

    with store.waiting.listening(store, wake) as look_s:

        async def news_behind(seen: int, rest: float | None) -> None:
            end = None if rest is None else time.monotonic() + rest
            while True:
                woken.clear()  # first: what comes after the look at the version sets it again
                left = look_s if end is None else end - time.monotonic()
                if store.version > seen or left <= 0:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), min(left, look_s))

        yield news_behind


async def shown(changes: AsyncIterator[Change | None], show: Any) -> AsyncIterator[Any]:
    """Yield what `show` makes of changes, but for None."""
    async with contextlib.aclosing(changes) as found:  # type: ignore[type-var]
        async for change in found:
            item = show(change)
            if item is not None:
                yield item
