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

Values in memory are read at once, without leaving the event loop.  Calls that may have to wait for
the disk, a sync or another writer run on a few threads.

A call that is cancelled before a thread has started it has no effect.  After that it runs to its
end: its writes are complete and stay, but their result is lost.

Calls to a server (see connect()) use no threads.  Cancelling one closes its connection; a write may
or may not have been carried out.
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
