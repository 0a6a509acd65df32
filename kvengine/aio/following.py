"""Following the log without a thread that waits: a writer wakes the event loop.

Invariants:

* As in the sync form: each change once, in order, none left out.
* A follower that waits holds nothing but its place in a list; cancelling it takes effect at once.
* Where another process writes, the control page is looked at every 0.2 to 5 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from kvengine.aio.runner import Runner
from kvengine.engine.store import Store
from kvengine.engine.waiting import FIRST_PAUSE_S, LONGEST_PAUSE_S
from kvengine.entry import Change

if TYPE_CHECKING:
    from kvengine.engine.tail import Tail


async def follow(
    runner: Runner, store: Store, tail: Tail, timeout: float | None
) -> AsyncIterator[Change | None]:
    """Yield changes as they come, and None each time before waiting; see Store.follow."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with waiting(store) as news_behind:
        while True:
            async for change in runner.iterate(tail.news):
                yield change
                if timeout is not None:
                    deadline = time.monotonic() + timeout
            yield None
            rest = None if deadline is None else deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return
            await news_behind(tail.seen, rest)


@contextlib.contextmanager
def waiting(store: Store) -> Iterator[Callable[[int, float | None], Awaitable[None]]]:
    """Give a call that waits, for some seconds at the most, until a store is behind a version."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(woken.set)

    async def news_behind(seen: int, rest: float | None) -> None:
        woken.clear()  # first: what comes after the look at the version sets it again
        await _wait(store, seen, woken, rest)

    with store.waiting.listening(store, wake):
        yield news_behind


async def _wait(store: Store, seen: int, woken: asyncio.Event, rest: float | None) -> None:
    """Return when the store has changed, or when the time is over."""
    if store.follower is None:
        if store.version <= seen:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), rest)
        store.check_usable()
        return
    end = None if rest is None else time.monotonic() + rest
    pause = FIRST_PAUSE_S
    while store.version <= seen and (end is None or time.monotonic() < end):
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_S)


async def shown(changes: AsyncIterator[Change | None], show: Any) -> AsyncIterator[Any]:
    """Yield what `show` makes of changes, but for None."""
    async with contextlib.aclosing(changes) as found:  # type: ignore[type-var]
        async for change in found:
            item = show(change)
            if item is not None:
                yield item
