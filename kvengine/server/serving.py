"""A server: a site and its connections.

Invariants:

* When stop() returns, every request that had begun is answered, or its timeout has passed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from kvengine.aio.database import Database
from kvengine.aio.edge import Edge
from kvengine.server.auth.access import Access, Records
from kvengine.server.auth.rate import KeyWrites
from kvengine.server.auth.records import CopiedRecords, StoreRecords
from kvengine.server.backend import Backend
from kvengine.server.http.accepting import Accepting
from kvengine.server.http.admission import Admission
from kvengine.server.http.listening import listening_socket
from kvengine.server.http.protocol import Protocol, Room
from kvengine.server.settings import ServerSettings
from kvengine.server.shared import Shared
from kvengine.server.site import Site

LOOK_S = 1.0
LEAVE_S = 1.0  # how long a stopping server keeps an idle connection open


def make_backend(
    db: Database | Edge, settings: ServerSettings, account: str, shared: Shared | None = None
) -> Backend:
    """Return the backend of the endpoints.

    Args:
        db: open; the caller closes it.
        settings: of the server.
        account: id of the account.
        shared: state shared with the other processes of the server; None: this is the only one.
    """
    shared = Shared() if shared is None else shared
    records: Records = CopiedRecords(db._inner) if isinstance(db, Edge) else StoreRecords(db._inner)
    access = Access(
        records,
        account,
        first=settings.first_token,
        is_open=settings.is_open,
        rate=settings.rate,
        now=time.monotonic,
        rates=shared.tokens,
    )
    key_writes = KeyWrites(
        settings.key_write_interval_s, time.monotonic, shared.keys, shared.secret
    )
    return Backend(db, account, access, key_writes, Admission(settings), shared)


class Server:
    """A listening site.

    Args:
        site: answers the requests.
        sockets: listening sockets to use instead of host and port; they stay open.
    """

    def __init__(self, site: Site, sockets: Sequence[socket.socket] | None = None) -> None:
        self._site, self._sockets = site, sockets
        self._settings = settings = site.settings
        self._room = Room(settings.connections)
        self._config = uvicorn.Config(
            site.app(),
            http=type("HotProtocol", (Protocol,), {"hot": site.hot, "room": self._room}),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_keep_alive=int(settings.idle_timeout_s),
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.private_key,
        )
        self._state = ServerState()
        self._accepting: list[Accepting] = []
        self._watch: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._accepting[0].socket.getsockname()[1])

    @property
    def connections(self) -> set[Any]:
        """The open connections."""
        return self._state.connections

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is not available, or a certificate can't be read.
        """
        self._config.load()
        sockets = self._sockets
        if sockets is None:
            sockets = [listening_socket(self._settings)]
        context, timeout_s = self._config.ssl, self._settings.head_timeout_s
        for one in sockets:  # the caller closes the originals
            accepting = Accepting(one.dup(), self._connection, context, self._room, timeout_s)
            self._accepting.append(accepting)
        if self._sockets is None:
            sockets[0].close()
        self._watch = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Disconnect clients that are too slow, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            self._site.figures.connections = len(self.connections)
            for connection in list(self.connections):
                connection.look(now, self._settings)

    def _connection(self) -> Protocol:
        make: Any = self._config.http_protocol_class
        connection: Protocol = make(self._config, self._state, {})
        return connection

    async def stop(self) -> None:
        """Stop accepting, answer the requests on open connections, and return.

        Each connection closes with its next answer, or after a short idle time.  So a client that
        keeps using its connection sees no failure, nor does a client that has just connected.
        """
        self._site.ready.is_leaving = True
        self._site.backend.stopping.set()
        for accepting in self._accepting:
            accepting.close()
        if self._watch is not None:
            self._watch.cancel()
        end = time.monotonic() + self._settings.stop_timeout_s
        quiet = time.monotonic() + min(LEAVE_S, self._settings.stop_timeout_s)
        for connection in list(self.connections):
            connection.leave()
        while time.monotonic() < end and (
            self.connections or any(accepting.is_busy for accepting in self._accepting)
        ):
            await asyncio.sleep(0.02)
            if time.monotonic() > quiet:
                for accepting in self._accepting:
                    accepting.cancel()
                for connection in list(self.connections):
                    connection.close_if_idle()
        for connection in list(self.connections):
            connection.transport.abort()
        self._site.figures.connections = 0
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=1)
