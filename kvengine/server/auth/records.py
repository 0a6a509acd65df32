"""Read the records of tokens: from a database's store, or from an edge's copies."""

from __future__ import annotations

import asyncio

from kvengine.aio.runner import reply
from kvengine.database.database import Database
from kvengine.database.edge import Edge
from kvengine.edge.messages import ReadOptions, ReadResult
from kvengine.errors import UpstreamUnavailable, copied_error
from kvengine.server.auth.access import WAIT

WAITING_MAX = 256  # requests whose tokens are not known yet
PATIENCE_S = 5.0
OPTIONS = ReadOptions(60.0)  # an edge receives every change within this bound


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
    """The records that an edge has copied.  It reads a missing record from its primary.

    Waiting requests use no threads, and all requests with the same token share one read.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._waiting = 0

    def find_cached(self, key: bytes) -> bytes | object | None:
        """Return a record, or WAIT if the edge must read it from its primary."""
        shown = self._edge._node.lookup(key, OPTIONS)
        return WAIT if shown is None else shown.value

    async def read(self, key: bytes) -> bytes | None:
        """Return a record, or None if it does not exist.

        Raises:
            UpstreamUnavailable: the primary does not answer, or too many requests wait for it.
        """
        if self._waiting >= WAITING_MAX:
            raise UpstreamUnavailable(
                f"more than {WAITING_MAX} requests wait for the primary to check tokens; try again"
            )
        answered, done = reply()
        self._waiting += 1
        try:
            self._edge._node.read(key, OPTIONS, done)
            async with asyncio.timeout(PATIENCE_S):
                shown: ReadResult | Exception = await answered
        except TimeoutError:
            raise UpstreamUnavailable(
                f"can't check the token: the primary did not answer within {PATIENCE_S} s"
            ) from None
        finally:
            self._waiting -= 1
        if isinstance(shown, Exception):
            raise copied_error(shown)
        return shown.value
