"""A process of a server with workers: the writer, or a reader.  The supervisor starts it.

It gets its order as a line of JSON on standard input: role, settings, descriptor (of the socket it
listens on), writer (the path of the writer's socket), secret, rates (the descriptor of the memory
in which tokens are counted), and of a reader the account.  When it
listens, it says on standard output what it started with.

Invariants:

* It ends when standard input does: the supervisor holds the other end, so it ends with it, also if
  nobody could send a signal.
"""

from __future__ import annotations

import asyncio
import gc
import json
import mmap
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import uvloop

from kvengine import aio
from kvengine.errors import KvError
from kvengine.server import logs
from kvengine.server.counted import Telling
from kvengine.server.forward import Forwarder
from kvengine.server.incoming import give_back_large_blocks
from kvengine.server.main import center_site, signals
from kvengine.server.rates import TABLE_BYTES, RateTable
from kvengine.server.serving import Server, make_backend
from kvengine.server.settings import ServerSettings
from kvengine.server.site import Site
from kvengine.server.start import Start

MORE_S = 5.0  # than stopping takes


async def serve(order: dict[str, Any], settings: ServerSettings) -> None:
    """Serve until a signal says otherwise."""
    ending = signals()
    listener = socket.socket(fileno=order["descriptor"])
    is_writer = order["role"] == "writer"
    with os.fdopen(order["rates"], "r+b") as shared:
        rates = RateTable(mmap.mmap(shared.fileno(), TABLE_BYTES))
    making = (
        center_site(settings, secret=order["secret"], rates=rates)
        if is_writer
        else reader(order, settings, rates)
    )
    async with making as (site, start):
        server = Server(site, [listener])
        await server.start()
        gc.freeze()
        sys.stdout.write(json.dumps(start) + "\n")
        sys.stdout.flush()
        while await ending == signal.SIGHUP:  # of the terminal; the supervisor sends SIGTERM
            ending = signals()
        await server.stop()


@asynccontextmanager
async def reader(
    order: dict[str, Any], settings: ServerSettings, rates: RateTable
) -> AsyncIterator[tuple[Site, Start]]:
    """Open the database to read beside the writer; give what serves it."""
    async with aio.open(settings.data, limits=settings.limits, read_only=True) as db:
        backend = make_backend(db, settings, order["account"], rates)
        forwarder = Forwarder("http://localhost", uds=order["writer"], keep_alive=False)
        async with aclosing(forwarder):
            site = Site(backend, settings, forwarder)
            telling = Telling(backend, site.figures, order["writer"], order["secret"], site.ready)
            task = asyncio.create_task(telling.run())
            try:
                yield site, Start(order["account"], None, None)
            finally:
                task.cancel()
                await telling.close()


def end_with_supervisor(patience_s: float) -> None:
    """Return when the supervisor is gone, after which the process stops, or is ended."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os._exit(1)


def main() -> None:
    """Do what the supervisor says."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    order = json.loads(sys.stdin.buffer.readline())
    settings = ServerSettings(**order["settings"])
    patience_s = settings.stop_timeout_s + MORE_S
    threading.Thread(target=end_with_supervisor, args=(patience_s,), daemon=True).start()
    logs.set_up(settings.log_format)
    give_back_large_blocks()
    try:
        uvloop.run(serve(order, settings))
    except (KvError, OSError) as error:
        sys.stderr.write(f"kvengine: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
