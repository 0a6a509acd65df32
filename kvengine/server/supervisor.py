"""Many processes: one that writes, some that read, and this one, which starts and watches them.

    clients -> readers, all on one socket -> (what is no read) -> the writer, on a Unix socket

Invariants:

* This process holds both sockets, so while a process is replaced, who connects waits.
* There is one writer at a time: the next one starts when the last has ended.
* A process that dies is started again; when this one dies, all others end.
* What tokens have asked is counted in memory that all share, which this process holds.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvengine.errors import KvError
from kvengine.file.child import python_running
from kvengine.server.listening import unix_socket
from kvengine.server.rates import TABLE_BYTES
from kvengine.server.settings import ServerSettings
from kvengine.server.start import Start
from kvengine.server.writer_folder import SOCKET_NAME, writer_folder

logger = logging.getLogger("kvengine.server")
WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
ENDING = {signal.SIGTERM, signal.SIGINT}  # pending, they go before all else
SHORT_LIFE_S = 1.0  # a process that dies so soon is not started again at once
PAUSES_S = (0.2, 1.0, 2.0, 4.0, 8.0)  # before one that could not start is tried again
MORE_S = 10.0  # than a process takes to stop


class Child:
    """A process of the server.

    Args:
        order: what it does; see worker.py.
        listener: what it listens on.
    """

    def __init__(self, order: dict[str, Any], listener: socket.socket) -> None:
        self.order, self.listener = order, listener
        self.began = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - the command is ours
            python_running("kvengine.server.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno(), order["rates"]],
            text=True,
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it was killed already: wait_until_ready() says it
            self.process.stdin.write(json.dumps({**order, "descriptor": listener.fileno()}) + "\n")
            self.process.stdin.flush()  # it stays open: the process ends when this end is closed

    def wait_until_ready(self) -> Start:
        """Return what it started with.

        Raises:
            KvError: it could not start; it has said why on standard error.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.process.stdout.close()
        if not line.endswith("\n"):
            raise KvError(f"the {self.order['role']} could not start")
        return Start(*json.loads(line))

    def kill(self) -> None:
        """End it, if it has not ended."""
        self.process.kill()
        self.process.wait()
        self.let_go()

    def stop(self, timeout_s: float) -> None:
        """Let it finish what is under way."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            logger.error("the %s did not stop and is killed", self.order["role"])
            self.process.kill()
            self.process.wait()
        self.let_go()

    def let_go(self) -> None:
        """Close what leads to a process that has ended."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()


class Supervisor:
    """The processes of a server.

    Args:
        settings: of the server.
        listener: what clients connect to.
        folder: for the writer's socket.
    """

    def __init__(self, settings: ServerSettings, listener: socket.socket, folder: str) -> None:
        self._settings, self._listener = settings, listener
        self._path = str(Path(folder) / SOCKET_NAME)
        self._writer_socket = unix_socket(self._path)
        self._shared = shared_memory(TABLE_BYTES)
        self._order: dict[str, Any] = {
            "settings": asdict(settings), "writer": self._path, "secret": secrets.token_hex(32),
            "rates": self._shared,
        }  # fmt: skip
        self._writer: Child | None = None
        self._readers: list[Child] = []

    def start(self) -> Start:
        """Start all processes; return what the writer started with.

        Raises:
            KvError: one could not start.
        """
        self._writer = self._child("writer")
        start = self._writer.wait_until_ready()
        self._order["account"] = start.account
        self._readers = [self._child("reader") for _ in range(self._settings.workers)]
        for reader in self._readers:
            reader.wait_until_ready()
        return start

    def _child(self, role: str) -> Child:
        listener = self._writer_socket if role == "writer" else self._listener
        return Child({**self._order, "role": role}, listener)

    def _successor(self, role: str) -> Child:
        """Start a process in the place of another; again if it dies before it listens.

        Raises:
            KvError: it can't start.
        """
        for pause_s in PAUSES_S:
            child = self._child(role)
            try:
                child.wait_until_ready()
                return child
            except KvError:
                child.kill()
                if signal.sigpending() & ENDING:
                    raise
                logger.error("the new %s could not start: it is tried again", role)
                time.sleep(pause_s)
        child = self._child(role)
        child.wait_until_ready()
        return child

    def stop(self) -> None:
        """Stop the readers, then the writer."""
        timeout_s = self._settings.stop_timeout_s + MORE_S
        for reader in self._readers:
            reader.process.send_signal(signal.SIGTERM)
        for reader in self._readers:
            reader.stop(timeout_s)
        if self._writer is not None:
            self._writer.stop(timeout_s)
        self._writer_socket.close()
        os.close(self._shared)

    def replace(self) -> None:
        """Replace every process by a new one; no connection is refused meanwhile."""
        timeout_s = self._settings.stop_timeout_s + MORE_S
        assert self._writer is not None
        self._writer.stop(timeout_s)
        self._writer = self._successor("writer")
        for number, old in enumerate(self._readers):
            self._readers[number] = self._successor("reader")
            old.stop(timeout_s)

    def look(self) -> None:
        """Start again what has died."""
        assert self._writer is not None
        for child in (self._writer, *self._readers):
            if child.process.poll() is None:
                continue
            role = child.order["role"]
            logger.error("a %s has died with %s and is started again", role, child.process.poll())
            if time.monotonic() - child.began < SHORT_LIFE_S:
                time.sleep(SHORT_LIFE_S)
            child.let_go()
            new = self._successor(role)
            if role == "writer":
                self._writer = new
            else:
                self._readers[self._readers.index(child)] = new


def shared_memory(size: int) -> int:
    """Return the descriptor of memory of zeros, which processes that are given it share."""
    if hasattr(os, "memfd_create"):
        found = os.memfd_create("kvengine-rates")
        os.ftruncate(found, size)
        return found
    with tempfile.TemporaryFile() as file:
        file.write(bytes(size))
        file.flush()
        return os.dup(file.fileno())


def run(settings: ServerSettings, listener: socket.socket, told: Callable[[Start], None]) -> None:
    """Serve by many processes until a signal says otherwise.

    Args:
        settings: of the server; `workers` of them read.
        listener: what clients connect to.
        told: called when all listen.

    Raises:
        KvError: a process can't start.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    with writer_folder() as folder:
        processes = Supervisor(settings, listener, folder)
        try:
            told(processes.start())
            while True:
                number = signal.sigwait(WATCHED)
                if number == signal.SIGHUP:
                    if not signal.sigpending() & ENDING:
                        processes.replace()
                elif number != signal.SIGCHLD:
                    return
                processes.look()
        finally:
            processes.stop()
