"""Consumers of the log for asyncio.

Invariants:

* Threads read and write the log and the position; waiting for changes occupies no thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from kvengine.aio.following import waiting
from kvengine.aio.runner import Runner
from kvengine.engine.following import consumer as sync
from kvengine.file.lease import Lease

C = TypeVar("C")


class Consumer(Generic[C]):
    """A named reader of the log, for asyncio; see kvengine.Consumer.

    It keeps the lease of the name until release(), or until it is dropped.

    Thread-safety: for one event loop at a time.
    """

    def __init__(self, inner: sync.Consumer[C], runner: Runner) -> None:
        self._inner, self._runner = inner, runner

    @property
    def name(self) -> str:
        """The name under which the store keeps its position."""
        return self._inner.name

    async def position(self) -> int:
        """Return the version up to which changes are acknowledged."""
        return await self._runner.run(lambda: self._inner.position)

    async def lag(self) -> int:
        """Return how many versions the store is ahead."""
        return await self._runner.run(lambda: self._inner.lag)

    async def changes(
        self, follow: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[C, None]:
        """Yield the changes after the position, in order; see kvengine.Consumer.changes."""
        async with aclosing(self._batches(sync.SIZE, follow, timeout)) as batches:
            async for lease, batch in batches:
                for change in batch:
                    if not self._inner._has(lease):
                        return
                    yield change

    async def batches(
        self, size: int = sync.SIZE, *, follow: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[list[C], None]:
        """Yield lists of up to `size` changes; see kvengine.Consumer.batches."""
        sync.check_size(size)
        async with aclosing(self._batches(size, follow, timeout)) as batches:
            async for _, batch in batches:
                yield batch

    async def _batches(
        self, size: int, follow: bool, timeout: float | None
    ) -> AsyncGenerator[tuple[Lease, list[C]], None]:
        inner, run = self._inner, self._runner.run
        end = None if timeout is None else time.monotonic() + timeout
        lease = await self._wait_for_lease(follow, end)
        if lease is None:
            return
        tail = await run(inner._tail)
        with waiting(inner._store) as news_behind:
            while True:
                found = await run(inner._read, tail, size)
                while (part := await run(next, found, None)) is not None:
                    if not await run(inner._goes_on, lease):
                        return
                    batch = inner._shown_of(part)
                    if batch:
                        yield lease, batch
                        end = None if timeout is None else time.monotonic() + timeout
                rest = sync.LOOK_S if end is None else end - time.monotonic()
                if not follow or rest <= 0:
                    return
                await run(inner._renew_lease)
                await news_behind(tail.seen, min(rest, sync.LOOK_S))

    async def _wait_for_lease(self, follow: bool, end: float | None) -> Lease | None:
        while (lease := await self._runner.run(self._inner._take_lease)) is None and follow:
            rest = sync.LEASE_LOOK_S if end is None else end - time.monotonic()
            if rest <= 0:
                return None
            await asyncio.sleep(min(rest, sync.LEASE_LOOK_S))
        return lease

    async def acknowledge(self, version: int) -> None:
        """Record in the store that all changes up to a version have been applied."""
        await self._runner.run(self._inner.acknowledge, version)

    async def release(self) -> None:
        """Release the lease, so that another process can get the next changes."""
        await self._runner.run(self._inner.release)

    async def restart(self) -> None:
        """Start over at version 0; see kvengine.Consumer.restart."""
        await self._runner.run(self._inner.restart)

    async def remove(self) -> None:
        """Remove the consumer and its position.  Removing it twice is not an error."""
        await self._runner.run(self._inner.remove)

    def __repr__(self) -> str:
        return f"<kvengine.aio.Consumer {self.name!r}>"
