"""Where the records of tokens are read: in a database's store, or among an edge's copies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from kvengine.database.database import Database
from kvengine.database.edge import Edge
from kvengine.edge.messages import ReadOptions, ReadResult
from kvengine.errors import UpstreamUnavailable, copied_error
from kvengine.server.auth.access import WAIT

WAITING_MAX = 256  # requests with tokens that are not known yet
PATIENCE_S = 5.0
OPTIONS = ReadOptions(60.0)  # the bound within which an edge hears of every change


class StoreRecords:
    """The records in a store.  They are few and small, so they are in memory."""

    def __init__(self, db: Database) -> None:
        self._store = db.store

    def find_cached(self, key: bytes) -> bytes | object | None:
        """Return a record, or None if it does not exist."""
        return self._store.get(key)

    async def read(self, key: bytes) -> bytes | None:
        """Return a record, or None if it does not exist."""
        return self._store.get(key)


class CopiedRecords:
    """The records as an edge knows them; which one it does not know, it asks its primary.

    A request takes no thread, and all that ask about a token share one.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._waiting = 0

    def find_cached(self, key: bytes) -> bytes | object | None:
        """Return a record, or WAIT if the edge has to ask."""
        shown = self._edge._node.lookup(key, OPTIONS)
        return WAIT if shown is None else shown.value

    async def read(self, key: bytes) -> bytes | None:
        """Return a record, or None if it does not exist.

        Raises:
            UpstreamUnavailable: the primary does not answer, or too many requests wait for it.
        """
        if self._waiting >= WAITING_MAX:
            raise UpstreamUnavailable("too many requests are waiting for the primary")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()

        def tell(result: Any) -> None:
            if not reply.done():
                reply.set_result(result)

        def done(result: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(tell, result)

        self._waiting += 1
        try:
            self._edge._node.read(key, OPTIONS, done)
            async with asyncio.timeout(PATIENCE_S):
                shown: ReadResult | Exception = await reply
        except TimeoutError:
            raise UpstreamUnavailable("can't check the token: no answer from the primary") from None
        finally:
            self._waiting -= 1
        if isinstance(shown, Exception):
            raise copied_error(shown)
        return shown.value
