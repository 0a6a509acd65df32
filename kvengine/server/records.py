"""Where the records of tokens are read: in a database's store, or among a location's copies."""

from __future__ import annotations

import asyncio

from kvengine.database.database import Database
from kvengine.database.edge import Edge
from kvengine.server.access import WAIT
from kvengine.tier.messages import Shown
from kvengine.tier.reading import Ask

ASK = Ask(60.0)  # the bound within which a location hears of every change


class StoreRecords:
    """The records in a store.  They are few and small, so they are in memory."""

    def __init__(self, db: Database) -> None:
        self._store = db.store

    def at_hand(self, key: bytes) -> bytes | object | None:
        """Return a record, or None if there is none."""
        return self._store.get(key)

    async def read(self, key: bytes) -> bytes | None:
        """Return a record, or None if there is none."""
        return self._store.get(key)


class CopiedRecords:
    """The records as a location knows them."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def at_hand(self, key: bytes) -> bytes | object | None:
        """Return a record, or WAIT if the location has to ask."""
        shown = self._edge.tier.lookup(key, ASK)
        return WAIT if shown is None else shown.value

    async def read(self, key: bytes) -> bytes | None:
        """Return a record, or None if there is none."""
        shown: Shown = await asyncio.get_running_loop().run_in_executor(
            None, self._edge.ask, key, ASK
        )
        return shown.value
