"""A log server: serves the log of a store to its clients, over TCP or a Unix socket.

Invariants:

* Each connection has a thread, which sends what its first bytes ask for, and nothing else.
* close() ends every connection, and returns when no thread reads the store any more.
* Where descriptors, threads or memory run out, readers are turned away until there are some again.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from typing import Any, Self

from kvengine.engine.store import Store
from kvengine.errors import InvalidType, KvError, LogCompacted
from kvengine.file.system import fork_watch
from kvengine.replication.local_source import LocalSource
from kvengine.replication.network import stream
from kvengine.replication.network.log_request import (
    ANY_STORE,
    REQUEST_BYTES,
    LogRequest,
    decode_request,
)

ASK_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 60.0  # a reader that takes nothing for so long is dropped
CONNECTIONS_MAX = 1000
PAUSE_S = 0.1  # before the next connection, if the system has no room for one

Address = str | tuple[str, int]
logger = logging.getLogger("kvengine")


class LogServer:
    """A server for the log of a store; serve_log() returns one.

    Thread-safety: threads may share it.
    """

    def __init__(self, source: LocalSource, listener: socket.socket) -> None:
        self._source, self._listener = source, listener
        name = listener.getsockname()
        # Where it listens: the path of a Unix socket, or host and port.
        self.address: Address = name if isinstance(name, str) else (name[0], name[1])
        self._lock = threading.RLock()  # a finalizer may close it in a thread that holds it
        self._open: dict[socket.socket, threading.Thread] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="kvengine-log", daemon=True)
        self._thread.start()
        fork_watch(self, LogServer._after_fork)

    def _after_fork(self) -> None:
        """In a child process: the parent serves on, and its sockets end with it."""
        self._lock, self._closed = threading.RLock(), True
        for one in (self._listener, *self._open):
            one.close()
        self._open.clear()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except (
                OSError,
                MemoryError,
            ):  # too many open files; the client may also be gone already
                if not self._closed:
                    time.sleep(PAUSE_S)
                continue
            try:
                self._begin(connection)
            except (RuntimeError, MemoryError) as error:  # no thread is to be had
                logger.warning("refused a reader of the log: %s", error)
                self._end(connection)

    def _begin(self, connection: socket.socket) -> None:
        """Let a thread serve a connection, unless there are too many."""
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="kvengine-log", daemon=True
        )
        with self._lock:
            if len(self._open) >= CONNECTIONS_MAX or self._closed:
                connection.close()
                return
            self._open[connection] = thread
            thread.start()  # before close() looks whom to wait for

    def _end(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)
        connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(ASK_TIMEOUT_S)
            request = decode_request(_exactly(connection, REQUEST_BYTES))
            connection.settimeout(SEND_TIMEOUT_S)
            self._send(connection, request)
        except (KvError, OSError) as error:
            if not self._closed:
                logger.info("lost a reader of the log: %s", error)
        finally:
            self._end(connection)

    def _send(self, connection: socket.socket, request: LogRequest) -> None:
        source = self._source
        write = connection.sendall
        if request.uuid not in (ANY_STORE, source.uuid):
            stream.send(Nothing(source.version), write, 0, uuid=source.uuid)
            return
        try:
            stream.send(source, write, request.after, uuid=source.uuid, follow=request.follow)
        except LogCompacted:  # the stream says so by beginning with 0
            stream.send(Nothing(source.version), write, 0, uuid=source.uuid)

    def close(self) -> None:
        """Stop listening and close all connections; the store stays open."""
        if self._closed:
            return
        with self._lock:
            self._closed = True
            connections = dict(self._open)
        for one in (self._listener, *connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._thread, *connections.values()):
            # One that was not begun, as a finalizer closes this first, finds its connection ended.
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kvengine.LogServer at {self.address!r}>"


class Nothing:
    """A source of no pieces: only the hello is sent, and the end."""

    def __init__(self, version: int) -> None:
        self.version = version

    def pieces(self, after: int, *, follow: bool = False) -> Any:
        return iter(())


def serve_log(source: Any, address: Address) -> LogServer:
    """Serve the log of a store or database to any client that connects; see connect_log().

    There is no encryption and no password.  Use a Unix socket, which the mode of its folder
    protects, or an address of this machine.

    Args:
        source: a Store or Database; it may be read-only and follow a writer.
        address: the path of a Unix socket to create; or host and port, 0 for any free port.

    Raises:
        InvalidType: `source` is not a store.
        OSError: the address can't be used.
    """
    store = getattr(source, "store", source)
    if not isinstance(store, Store):
        raise InvalidType(f"serve_log() needs a Store or Database, not {type(source).__name__}")
    if isinstance(address, str):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
    else:
        listener = socket.create_server(address)
    return LogServer(LocalSource(store), listener)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        got = connection.recv(size - len(data))
        if not got:
            break
        data += got
    return bytes(data)
