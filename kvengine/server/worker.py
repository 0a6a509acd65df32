"""A worker process of a server; the supervisor starts it.

It reads its order as a line of JSON from standard input: settings, descriptor (of the listening
socket), shared state (memory, rows, row, secret, inbox, outboxes: shared.py), and the account,
unless it is the first worker.  When it listens, it writes its Start to standard output.

Invariants:

* It ends when its standard input closes.  The supervisor holds the other end, so the worker ends
  with it, even after kill -9.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import uvloop

from kvengine.errors import KvError
from kvengine.server.http.body.incoming import give_back_large_blocks
from kvengine.server.main import primary_site, signals
from kvengine.server.monitoring import logs
from kvengine.server.serving import Server
from kvengine.server.settings import ServerSettings
from kvengine.server.shared import Shared

MORE_S = 5.0  # after the timeout for stopping


async def serve(order: dict[str, Any], settings: ServerSettings) -> None:
    """Serve until a signal stops the worker."""
    ending = signals()
    listener = socket.socket(fileno=order["descriptor"])
    async with primary_site(settings, shared_of(order), order["account"]) as (site, start):
        server = Server(site, [listener])
        await server.start()
        gc.freeze()
        sys.stdout.write(json.dumps(start) + "\n")
        sys.stdout.flush()
        while await ending == signal.SIGHUP:  # of the terminal; the supervisor sends SIGTERM
            ending = signals()
        await server.stop()


def shared_of(order: dict[str, Any]) -> Shared:
    """Return the state that an order shares with the other processes."""
    return Shared(
        order["rows"],
        order["row"],
        order["memory"],
        bytes.fromhex(order["secret"]),
        socket.socket(fileno=order["inbox"]),
        [socket.socket(fileno=one) for one in order["outboxes"]],
    )


def end_with_supervisor(patience_s: float) -> None:
    """Wait until the supervisor is gone; then stop the process, at the latest after a time."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os._exit(1)


def main() -> None:
    """Run the order of the supervisor."""
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
