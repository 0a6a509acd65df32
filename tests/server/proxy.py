"""A proxy for TCP that can be told to misbehave: links that are slow to die, and lost answers."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Proxy:
    """Carries bytes between clients and a server.

    `swallows`: of connections that are there, nothing is carried any more, as when a router has
    forgotten them; new ones work.  `hangs`: of no connection.  `loses`: a request whose first bytes
    have this in them arrives, its answer does not, and the connection ends.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.hangs = False
        self.loses: bytes | None = None
        self.lost = self.accepted = self.requests = 0
        self._dead: set[int] = set()
        self._open: set[socket.socket] = set()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Carry nothing any more of the connections that are there now."""
        self._dead |= {id(one) for one in self._open}

    def refuse(self) -> None:
        """Refuse connections, and break those that are there."""
        port = self.port
        self._listener.close()
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            socket.create_connection(("127.0.0.1", port), 1).close()
        self.cut()

    def cut(self) -> None:
        """Break the connections that are there."""
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def listen(self) -> None:
        """Accept connections again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End."""
        self._ended = True
        self.refuse()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        self._open.add(near)
        is_lost = False
        try:
            with near, socket.create_connection(("127.0.0.1", self._target)) as far:
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not self._ended:
                    ready = select.select([near, far], [], [], 0.05)[0]
                    if self.hangs or id(near) in self._dead:
                        for one in ready:
                            if not one.recv(1 << 16):
                                return
                        continue
                    for one in ready:
                        data = one.recv(1 << 16)
                        if not data:
                            return
                        if one is near:
                            self.requests += data.count(b" HTTP/1.1\r\n")
                            is_lost = is_lost or (self.loses is not None and self.loses in data)
                        elif is_lost:
                            self.lost += 1
                            return
                        (far if one is near else near).sendall(data)
        except OSError:
            pass
        finally:
            self._open.discard(near)
            self._dead.discard(id(near))
