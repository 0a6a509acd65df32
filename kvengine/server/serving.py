"""A server: a backend, its doors, and the connections.

Invariants:

* When stop() returns, every request that had begun is answered or its time is over.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence

import uvicorn

from kvengine.aio.database import Database
from kvengine.aio.edge import Edge
from kvengine.server.access import Access, Records
from kvengine.server.app import App, Door
from kvengine.server.backend import Backend
from kvengine.server.messages import Request, Response
from kvengine.server.protocol import Protocol
from kvengine.server.rate import KeyWrites
from kvengine.server.records import CopiedRecords, StoreRecords
from kvengine.server.rest.door import RestDoor
from kvengine.server.settings import ServerSettings
from kvengine.server.v1 import V1Door
from kvengine.server.workerd import WorkerdDoor


def make_backend(db: Database | Edge, settings: ServerSettings) -> Backend:
    """Return what the doors stand on.

    Args:
        db: open; the caller closes it.
        settings: of the server.
    """
    records: Records = CopiedRecords(db._inner) if isinstance(db, Edge) else StoreRecords(db._inner)
    access = Access(
        records,
        settings.account,
        first=settings.first_token,
        is_open=settings.is_open,
        rate=settings.rate,
        now=time.monotonic,
    )
    return Backend(
        db, settings.account, access, KeyWrites(settings.key_write_interval_s, time.monotonic)
    )


def make_app(backend: Backend) -> App:
    """Return the application over a backend."""
    workerd = WorkerdDoor(backend)
    doors: dict[bytes, Door] = {
        b"": nothing_here,
        b"client": RestDoor(backend),
        b"workerd": workerd,
        b"v1": V1Door(backend),
    }
    app = App(doors, workerd)
    app.stopping = backend.stopping
    return app


async def nothing_here(request: Request) -> Response:
    """Answer what no door is for."""
    return Response.text(404, "there is nothing here")


class Server:
    """An application that listens.

    Args:
        app: what answers.
        settings: where it listens, and for how long it waits.
        sockets: that listen already, instead of host and port.
    """

    def __init__(
        self, app: App, settings: ServerSettings, sockets: Sequence[socket.socket] | None = None
    ) -> None:
        self._app, self._settings = app, settings
        self._sockets = None if sockets is None else list(sockets)
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            uds=settings.unix_socket,
            http=Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.idle_timeout_s),
            timeout_graceful_shutdown=int(settings.stop_timeout_s),
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.private_key,
        )
        self._uvicorn = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._uvicorn.servers[0].sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Return when it listens.

        Raises:
            OSError: the address can't be had.
        """
        config = self._uvicorn.config
        config.load()
        self._uvicorn.lifespan = config.lifespan_class(config)
        self._task = asyncio.create_task(self._serve())
        while not self._uvicorn.started:
            if self._task.done():
                self._task.result()
                raise OSError(f"can't listen on {self._settings.host}:{self._settings.port}")
            await asyncio.sleep(0.005)

    async def _serve(self) -> None:
        try:
            await self._uvicorn._serve(self._sockets)
        except SystemExit as error:  # uvicorn's way to say that it can't listen
            raise OSError(f"can't listen on {self._settings.host}:{self._settings.port}") from error

    async def stop(self) -> None:
        """Accept nothing more, answer what is under way, and return."""
        if self._app.stopping is not None:
            self._app.stopping.set()
        self._uvicorn.should_exit = True
        if self._task is not None:
            await self._task
