"""A server from its start to its end: the database, the endpoints, the signals.

Invariants:

* The database closes after the last answer, so its lock is free when the process ends.
* SIGTERM and SIGINT stop the server; SIGHUP replaces the program with a new one on the same socket.
  Both work while an edge waits for its primary, too.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import uvloop

from kvengine import aio
from kvengine.errors import InvalidRequest
from kvengine.server import supervisor
from kvengine.server.api.edge_endpoints import open_edge, wrote_here
from kvengine.server.http.body.incoming import give_back_large_blocks
from kvengine.server.http.listening import Listener
from kvengine.server.monitoring import logs
from kvengine.server.serving import Server, make_backend
from kvengine.server.settings import ServerSettings
from kvengine.server.shared import Shared
from kvengine.server.site import Site
from kvengine.server.start import Start, first_start

logger = logging.getLogger("kvengine.server")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
USAGE_S = 1.0  # after it, other processes see the usage of this one
OTHER_FILES = 6000  # of the store, and connections to other servers
OnStart = Callable[[str, Start], None]  # called with the URL and what was generated


def run(settings: ServerSettings, on_start: OnStart) -> None:
    """Serve until a signal stops the server.

    Args:
        settings: of the server.
        on_start: called when the server listens.

    Raises:
        KvError, OSError: the server can't start.
    """
    logs.set_up(settings.log_format)
    give_back_large_blocks()
    raise_open_files(settings.connections + OTHER_FILES)
    listening = Listener(settings)

    def listens(url: str, start: Start) -> None:
        on_start(url, start)
        logger.info("listening on %s, process %d", url, os.getpid())

    try:
        listener, last = listening.socket, 0
        if settings.workers:
            supervisor.run(
                settings, listener, lambda start: listens(url_of(settings, listener), start)
            )
        else:
            last = uvloop.run(_serve(settings, listener, listens))
        logger.info("restarting" if last == signal.SIGHUP else "stopped")
        if last == signal.SIGHUP:
            listening.hand_on()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    finally:
        listening.close()


async def _serve(settings: ServerSettings, listener: socket.socket, on_start: OnStart) -> int:
    """Serve, and return the signal that ended it."""
    ending = signals()
    is_primary = settings.upstream is None
    place = primary_site(settings) if is_primary else edge_site(settings, ending)
    try:
        async with place as (site, start):
            server = Server(site, [listener])
            await server.start()
            gc.freeze()  # keeps the collector from scanning objects that stay
            on_start(url_of(settings, listener), start)
            await ending
            await server.stop()
    except asyncio.CancelledError:  # a signal came before the start
        if not ending.done():
            raise
    number = await ending
    # Signals from now on stay pending for the program that replaces this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    return number


@asynccontextmanager
async def primary_site(
    settings: ServerSettings, shared: Shared | None = None, account: str | None = None
) -> AsyncIterator[tuple[Site, Start]]:
    """Open the database of a primary; yield its site.

    Args:
        settings: of the server.
        shared: state shared with its other processes; None: there are none.
        account: id of the account, if another process has run first_start().
    """
    async with aio.open(
        settings.data,
        limits=settings.limits,
        durability=settings.durability,
        usage_interval_s=USAGE_S,
    ) as db:
        start = Start(account or "", None, None)
        if account is None:
            start = await asyncio.to_thread(
                first_start, db._inner, settings.account, settings.first_token
            )
        yield Site(make_backend(db, settings, start.account, shared), settings), start


@asynccontextmanager
async def edge_site(
    settings: ServerSettings, ending: asyncio.Future[int]
) -> AsyncIterator[tuple[Site, Start]]:
    """Open an edge; yield its site.

    Raises:
        CancelledError: *ending* was done while the edge waited for its primary.
    """
    # The HTTP client is slow to import.
    from kvengine.server.api.forward import Forwarder  # noqa: PLC0415

    url = settings.upstream or ""
    verify = trust(settings.upstream_ca)
    opening = asyncio.create_task(
        open_edge(
            url,
            token=settings.upstream_token,
            name=settings.name,
            path=settings.data or None,
            verify=verify,
            memory_bytes=settings.memory_bytes,
        )
    )
    await asyncio.wait((opening, ending), return_when=asyncio.FIRST_COMPLETED)
    opening.cancel()  # if it is not done
    edge = await opening
    endpoint = Forwarder(url, verify=verify, after_write=wrote_here(edge))
    async with edge, aclosing(endpoint) as forwarder:
        remote: Any = edge.upstream
        account = settings.account or await remote.account()
        backend = make_backend(edge, settings, account)
        yield Site(backend, settings, forwarder), Start(account, None, None)


def raise_open_files(wanted: int) -> None:
    """Raise the limit of open files, of this process and its children, as far as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def trust(file: str | None) -> ssl.SSLContext | bool:
    """Return the TLS verification of a primary: by the CAs in a PEM file; None: the default CAs.

    Raises:
        InvalidRequest: the file is missing, or has no PEM certificates.
    """
    if file is None:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except (ssl.SSLError, OSError) as error:
        raise InvalidRequest(
            f"can't load PEM certificates from {file}: {error.strerror or error}"
        ) from None


def signals() -> asyncio.Future[int]:
    """Return a future that gets the number of the first signal to stop."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        if not found.done():
            found.set_result(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, note, number)
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, SIGNALS
    )  # the previous program may have blocked them
    return found


def url_of(settings: ServerSettings, listener: socket.socket) -> str:
    """Return the URL of the server, with its actual port."""
    if listener.family == socket.AF_UNIX:
        return settings.url
    return settings.url.replace(f":{settings.port}", f":{listener.getsockname()[1]}")
