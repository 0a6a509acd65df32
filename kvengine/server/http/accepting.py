"""Accepting connections, with or without TLS.

Invariants:

* A connection counts as one of its address from the moment at which it is accepted.
* A handshake may take as long as a head.
* What was accepted before close() is served, and is_busy until it is one of the connections. (Of
  an asyncio.Server it would be dropped, and its socket never be closed.)
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from kvengine.server.http.listening import BACKLOG
from kvengine.server.http.protocol import Protocol, Room

PAUSE_S = 0.1  # before the next connection, if the system has no room for one


class Accepting:
    """Accepts connections, does the TLS handshake of each if there is a certificate.

    Args:
        listener: that listens; close() closes it.
        make: makes the protocol of a connection.
        context: the server's certificate; None: no TLS.
        room: of the server.
        timeout_s: that a handshake may take.

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
        """Take the connections that have come; what else this raises is logged by the loop."""
        for _ in range(BACKLOG):
            try:
                connection, peer = self.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):  # that was all, or one has left
                return
            except OSError:  # too many open files
                self._loop.remove_reader(self.socket)
                self._loop.call_later(PAUSE_S, self._listen)
                return
            self._begin(connection, str(peer[0]) if isinstance(peer, tuple) else "")

    def _begin(self, connection: socket.socket, address: str) -> None:
        is_welcome, task = self._room.enter(address), None
        try:
            # During a handshake nothing can be said that the client would understand.
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
            with suppress(OSError):  # it speaks something else, is too slow, or is gone
                await self._loop.connect_accepted_socket(
                    lambda: made,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=self._timeout_s,
                )
                if self._is_closed:
                    made.leave()
        finally:
            if protocol is None or protocol.transport is None:  # it never began, so it won't end
                connection.close()
                self._room.leave(address)

    @property
    def is_busy(self) -> bool:
        """True while what was accepted is not yet a connection."""
        return bool(self._tasks)

    def close(self) -> None:
        """Accept no more connections; handshakes under way may end, with one request after them."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self.socket)
        self.socket.close()

    def cancel(self) -> None:
        """End the handshakes that are under way."""
        for task in self._tasks:
            task.cancel()
