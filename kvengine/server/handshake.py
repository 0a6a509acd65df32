"""Accepting TLS connections.

Invariants:

* A connection counts as one of its address from the moment at which it is accepted.
* A handshake may take as long as a head.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from kvengine.server.protocol import Protocol, Room

PAUSE_S = 0.1  # before the next connection, if the system has no room for one


class TlsListener:
    """Accepts connections and does the TLS handshake of each.

    Args:
        listener: that listens; close() closes it.
        make: makes the protocol of a connection.
        context: the server's certificate.
        room: of the server.
        timeout_s: that a handshake may take.

    Thread-safety: for one event loop.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], Protocol],
        context: ssl.SSLContext,
        room: Room,
        timeout_s: float,
    ) -> None:
        self.sockets = [listener]
        self._make, self._context, self._room, self._timeout_s = make, context, room, timeout_s
        self._tasks = {asyncio.ensure_future(self._accept(listener))}

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    connection, peer = await loop.sock_accept(listener)
                except OSError:  # too many open files; the client may also be gone already
                    await asyncio.sleep(PAUSE_S)
                    continue
                protocol = self._make()
                protocol.address = str(peer[0]) if isinstance(peer, tuple) else ""
                if self._room.enter(protocol.address):
                    task = asyncio.ensure_future(self._shake_hands(connection, protocol))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:  # nothing can be said yet that the client would understand
                    connection.close()
                    self._room.leave(protocol.address)

    async def _shake_hands(self, connection: socket.socket, protocol: Protocol) -> None:
        address = protocol.address or ""
        try:
            with suppress(OSError):  # it speaks something else, is too slow, or is gone
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: protocol,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=self._timeout_s,
                )
        finally:
            if protocol.transport is None:  # it has never begun, so it will not end
                connection.close()
                self._room.leave(address)

    def close(self) -> None:
        """Accept no more connections, and end the handshakes that are under way."""
        for task in self._tasks:
            task.cancel()
