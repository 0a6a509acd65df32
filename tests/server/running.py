"""A server in this process, on a thread of its own, for tests of what it answers."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

import kvengine
import kvengine.aio
from kvengine.server.backend import Backend
from kvengine.server.monitoring.figure_rows import HOT
from kvengine.server.serving import Server, make_backend
from kvengine.server.settings import ServerSettings
from kvengine.server.site import Site

ACCOUNT = "ac" * 16
HOT_READS = ("rest", "workerd", "rest absent", "workerd absent")  # as in hot.pyx
SIZE = re.compile(rb"content-length: ([0-9]+)")
TOKEN = "a token for tests"


class Running:
    """A server that runs; `db` is its database, which tests may change from their own thread."""

    def __init__(self, db: kvengine.Database, port: int, backend: Backend) -> None:
        self.db, self.port, self.backend = db, port, backend
        self.url = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.url}/client/v4"
        self.headers = {"Authorization": f"Bearer {TOKEN}"}
        self.http = httpx.Client(base_url=self.url, headers=self.headers, timeout=30)

    def hot_reads(self, *kinds: str) -> int:
        """Return how many reads of some kinds were answered on the fast path."""
        counts = self.backend.shared.own[HOT].tolist()[-len(HOT_READS) :]
        return sum(counts[HOT_READS.index(kind)] for kind in kinds or HOT_READS)

    def namespace_id(self, title: str) -> str:
        """Return the id of a namespace, which is made if there is none."""
        return self.db.namespace(title).id

    def exchange(self, data: bytes) -> bytes:
        """Send a request on a new connection; return its answer, as its length says."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(data)
            found = b""
            while True:
                head, end, body = found.partition(b"\r\n\r\n")
                size = SIZE.search(head)
                if end and len(body) >= (int(size[1]) if size else 0):
                    return found
                piece = connection.recv(1 << 16)
                if not piece:
                    return found
                found += piece

    def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes on a new connection; return all that comes until it is closed or silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            found = bytearray()
            connection.settimeout(0.5)
            try:
                while piece := connection.recv(1 << 16):
                    found += piece
            except TimeoutError:
                pass
            return bytes(found)


@contextmanager
def running(*, limits: Any = "strict", **settings: Any) -> Iterator[Running]:
    """Run a server over a new database in memory."""
    options: dict[str, Any] = {
        "data": "", "port": 0, "account": ACCOUNT, "first_token": TOKEN, "key_write_interval_s": 0.0
    } | settings  # fmt: skip
    box: list[Any] = []
    ready = threading.Event()
    stop: list[Any] = []

    async def main() -> None:
        leave = asyncio.Event()
        stop.append((asyncio.get_running_loop(), leave))
        try:
            async with kvengine.aio.Database.in_memory(limits=limits) as db:
                chosen = ServerSettings(**options)
                backend = make_backend(db, chosen, ACCOUNT)
                server = Server(Site(backend, chosen))
                await server.start()
                box.append(Running(db._inner, server.port, backend))
                ready.set()
                await leave.wait()
                await server.stop()
        except BaseException as error:
            box.append(error)
            ready.set()
            raise

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    ready.wait(30)
    if isinstance(box[0], BaseException):
        raise box[0]
    try:
        yield box[0]
    finally:
        box[0].http.close()
        loop, leave = stop[0]
        loop.call_soon_threadsafe(leave.set)
        thread.join(30)
