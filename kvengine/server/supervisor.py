"""The supervisor: it starts the worker processes of a server, and restarts them.

    clients -> workers, all on one socket -> the store, which each worker opens

Invariants:

* The supervisor holds the socket, so clients that connect while it replaces a worker wait.
* It opens no store.  If a worker dies, only the requests in progress in that worker are lost.
* It replaces a worker that dies; if the supervisor dies, all workers end.
* It holds the shared memory, so figures survive a worker.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from kvengine.errors import KvError
from kvengine.file.child import python_running
from kvengine.server.settings import ServerSettings
from kvengine.server.shared import SECRET_BYTES, shared_memory, size_of
from kvengine.server.start import Start

logger = logging.getLogger("kvengine.server")
WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
ENDING = {signal.SIGTERM, signal.SIGINT}  # if pending, they take precedence
SHORT_LIFE_S = 1.0  # a worker that dies sooner is restarted with a delay
PAUSES_S = (0.2, 1.0, 2.0, 4.0, 8.0)  # before each retry of a worker that could not start
MORE_S = 10.0  # than a process takes to stop


def ended(returncode: int) -> str:
    """Return a description of how a process ended."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    with suppress(ValueError):  # real-time signals have no name
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"was killed by signal {-returncode}"


class Child:
    """A worker.

    Args:
        order: see worker.py.
        descriptors: which it inherits.
    """

    def __init__(self, order: dict[str, Any], descriptors: list[int]) -> None:
        self.row: int = order["row"]
        self.began = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - the command is ours
            python_running("kvengine.server.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            text=True,
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: wait_until_ready() raises
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()  # stdin stays open: the worker ends when it closes

    def wait_until_ready(self) -> Start:
        """Return what the worker started with.

        Raises:
            KvError: it could not start; it wrote the reason to standard error.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.process.stdout.close()
        if not line.endswith("\n"):
            raise KvError("a worker could not start; see its error above")
        return Start(*json.loads(line))

    def end(self, timeout_s: float) -> None:
        """Wait until the worker has ended; kill it after a timeout."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            logger.error(
                "worker process %d did not stop within %g s; killing it",
                self.process.pid,
                timeout_s,
            )
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()


class Supervisor:
    """The processes of a server.

    Args:
        settings: of the server.
        listener: accepts clients.
    """

    def __init__(self, settings: ServerSettings, listener: socket.socket) -> None:
        self._listener = listener
        self._count = settings.workers
        self._timeout_s = settings.stop_timeout_s + MORE_S
        self._free = list(range(self._count + 1))  # rows; the extra one is for a replacement
        rows = len(self._free)
        self._memory = shared_memory(size_of(rows))
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in self._free]
        self._inboxes, self._outboxes = [one for one, _ in pairs], [one for _, one in pairs]
        self._order: dict[str, Any] = {
            "settings": asdict(settings), "descriptor": listener.fileno(), "memory": self._memory,
            "rows": rows, "secret": secrets.token_hex(SECRET_BYTES), "account": None,
        }  # fmt: skip
        self._workers: list[Child] = []

    def start(self) -> Start:
        """Start all workers; return what the first one started with.

        Raises:
            KvError: one could not start.
        """
        self._workers.append(self._child())
        start = self._workers[0].wait_until_ready()
        self._order["account"] = start.account
        for _ in range(1, self._count):
            self._workers.append(self._child())
        for worker in self._workers[1:]:
            worker.wait_until_ready()
        return start

    def _child(self) -> Child:
        row = self._free.pop(0)
        inbox = self._inboxes[row].fileno()
        outboxes = [one.fileno() for n, one in enumerate(self._outboxes) if n != row]
        order = {**self._order, "row": row, "inbox": inbox, "outboxes": outboxes}
        return Child(order, [self._listener.fileno(), self._memory, inbox, *outboxes])

    def _end(self, worker: Child, timeout_s: float) -> None:
        worker.end(timeout_s)
        self._free.insert(0, worker.row)  # free only after it has ended

    def _successor(self) -> Child:
        """Start a replacement worker; retry if it dies before it listens.

        Raises:
            KvError: it can't start.
        """
        for pause_s in (*PAUSES_S, None):
            child = self._child()
            try:
                child.wait_until_ready()
                return child
            except KvError:
                child.process.kill()
                self._end(child, self._timeout_s)
                if pause_s is None or signal.sigpending() & ENDING:
                    raise
                logger.error("the new worker could not start; trying again in %g s", pause_s)
                time.sleep(pause_s)
        raise AssertionError  # not reached

    def stop(self) -> None:
        """Stop the workers after the requests in progress."""
        for worker in self._workers:
            worker.process.send_signal(signal.SIGTERM)
        for worker in self._workers:
            worker.end(self._timeout_s)
        os.close(self._memory)
        for one in (*self._inboxes, *self._outboxes):
            one.close()

    def replace(self) -> None:
        """Replace every worker with a new one; no connection is refused meanwhile."""
        for number, old in enumerate(self._workers):
            self._workers[number] = self._successor()
            old.process.send_signal(signal.SIGTERM)
            self._end(old, self._timeout_s)

    def look(self) -> None:
        """Replace workers that have died."""
        for number, worker in enumerate(self._workers):
            if worker.process.poll() is None:
                continue
            logger.error(
                "worker process %d %s; starting another one",
                worker.process.pid,
                ended(worker.process.returncode),
            )
            if time.monotonic() - worker.began < SHORT_LIFE_S:
                time.sleep(SHORT_LIFE_S)
            self._end(worker, self._timeout_s)
            self._workers[number] = self._successor()


def run(
    settings: ServerSettings, listener: socket.socket, on_start: Callable[[Start], None]
) -> None:
    """Serve with worker processes until a signal stops them.

    Args:
        settings: of the server; `workers` is their number.
        listener: accepts clients.
        on_start: called when all workers listen.

    Raises:
        KvError: a worker can't start.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    processes = Supervisor(settings, listener)
    try:
        on_start(processes.start())
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
