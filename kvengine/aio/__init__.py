"""kvengine for asyncio: the same names, with ``async`` methods.

>>> import asyncio, tempfile
>>> import kvengine.aio
>>> async def main(folder):
...     async with kvengine.aio.open(folder) as db:
...         kv = await db.namespace("flags")
...         await kv.put("dark-mode", "on")
...         return await kv.get("dark-mode")
>>> asyncio.run(main(tempfile.mkdtemp()))
'on'

What is in memory is read at once, without leaving the event loop.  Everything that may have to
wait, for the disk, a sync or another writer, is done by a few threads.

A call that is cancelled before a thread has taken it up does nothing.  After that it is carried
out to its end: what it wrote is whole and stays, only nobody hears of it.
"""

from kvengine.aio.consumer import Consumer
from kvengine.aio.database import Database
from kvengine.aio.database import open_database as open  # noqa: A004
from kvengine.aio.edge import Edge
from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.namespace import Namespace
from kvengine.aio.remote import RemoteDatabase, RemoteNamespace, connect
from kvengine.aio.streams import ValueStream

__all__ = [
    "Consumer",
    "Database",
    "Edge",
    "EdgeNamespace",
    "Namespace",
    "RemoteDatabase",
    "RemoteNamespace",
    "ValueStream",
    "connect",
    "open",
]
