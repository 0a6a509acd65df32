"""Accept connections, with or without TLS.

Invariants:

* A connection counts toward the limit of its address as soon as it is accepted.
* A TLS handshake has the same timeout as a head.
* A connection accepted before close() is served, and counts as busy until then.  (asyncio.Server
  would drop it and never close its socket.)
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from kvengine.server.http.listening import BACKLOG
from kvengine.server.http.protocol import Protocol, Room

PAUSE_S = 0.1  # after the system runs out of open files


class Accepting:
    """Accepts connections, and does the TLS handshake if there is a certificate.

    Args:
        listener: a listening socket; close() closes it.
        make: creates the protocol of a connection.
        context: has the certificate of the server; None: no TLS.
        room: of the server.
        timeout_s: maximum duration of a handshake.

    Thread-safety: for one event loop.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], Protocol],
        context: ssl.SSLContext | None,
        room: Room,
        timeout_s: float,
    ) -> None:
        listener.setblocking(False)
        self.socket, self._loop = listener, asyncio.get_running_loop()
        self._make, self._context, self._room = make, context, room
        self._timeout_s = None if context is None else timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._listen()

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self.socket, self._accept)

    def _accept(self) -> None:
        """Accept the waiting connections; the loop logs other errors."""
        for _ in range(BACKLOG):
            try:
                connection, peer = self.socket.accept()
            except (
                BlockingIOError,
                ConnectionAbortedError,
            ):  # none is left, or a client disconnected
                return
            except OSError:  # too many open files
                self._loop.remove_reader(self.socket)
                self._loop.call_later(PAUSE_S, self._listen)
                return
            self._begin(connection, str(peer[0]) if isinstance(peer, tuple) else "")

    def _begin(self, connection: socket.socket, address: str) -> None:
        is_welcome, task = self._room.enter(address), None
        try:
            # Before a TLS handshake the client can't read a refusal.
            if is_welcome or self._context is None:
                task = self._loop.create_task(self._connect(connection, address, is_welcome))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            if task is None:
                connection.close()
                self._room.leave(address)

    async def _connect(self, connection: socket.socket, address: str, is_welcome: bool) -> None:
        protocol = None
        try:
            connection.setblocking(False)
            protocol = made = self._make()
            made.address, made.is_welcome = address, is_welcome
            with suppress(OSError):  # the client is not TLS, too slow, or gone
                await self._loop.connect_accepted_socket(
                    lambda: made,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=self._timeout_s,
                )
                if self._is_closed:
                    made.leave()
        finally:
            if (
                protocol is None or protocol.transport is None
            ):  # connection_lost() will not be called
                connection.close()
                self._room.leave(address)

    @property
    def is_busy(self) -> bool:
        """True while an accepted socket is not a connection yet."""
        return bool(self._tasks)

    def close(self) -> None:
        """Stop accepting; handshakes in progress may finish, with one request each."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self.socket)
        self.socket.close()

    def cancel(self) -> None:
        """Cancel the handshakes in progress."""
        for task in self._tasks:
            task.cancel()
