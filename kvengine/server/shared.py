"""State that the processes of a server share: memory for rates and figures, and messages.

    tokens' rates | writes of keys | a row of figures for each process

Invariants:

* A process that dies at any time leaves no lock and no partial write.
* A row has one writer at a time.  After its process has ended, another process continues its
  counts, so totals, which are sums of all rows, never decrease.
* No process waits for another: a message to a process that does not read is dropped.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kvengine.server.auth.rates import RateTable
from kvengine.server.monitoring.figure_rows import ROW_BYTES

TOKENS_BYTES = 1 << 19  # 32,768 tokens in use at once
KEYS_BYTES = 1 << 22  # 262,144 keys written in a second
SECRET_BYTES = 16
NEWS_BYTES_MAX = 1 << 16


class Shared:
    """The state that a process shares with the other processes of its server.

    Args:
        rows: number of rows of figures.
        own: index of the row of this process.
        descriptor: of the memory; None: this process is the only one.
        secret: shared by all processes.
        inbox: receives messages to this process; None: there are none.
        outboxes: send messages to the other processes.
    """

    def __init__(
        self,
        rows: int = 1,
        own: int = 0,
        descriptor: int | None = None,
        secret: bytes | None = None,
        inbox: socket.socket | None = None,
        outboxes: Sequence[socket.socket] = (),
    ) -> None:
        memory = mmap.mmap(-1 if descriptor is None else descriptor, size_of(rows))
        whole = memoryview(memory)
        self.tokens = RateTable(whole[:TOKENS_BYTES])
        self.keys = RateTable(whole[TOKENS_BYTES : TOKENS_BYTES + KEYS_BYTES])
        figures = whole[TOKENS_BYTES + KEYS_BYTES :]
        self.rows = [
            figures[start : start + ROW_BYTES].cast("Q")
            for start in range(0, rows * ROW_BYTES, ROW_BYTES)
        ]
        self.own = self.rows[own]
        self.secret = secrets.token_bytes(SECRET_BYTES) if secret is None else secret
        self._inbox, self._outboxes = inbox, outboxes

    # -- messages

    def tell(self, *messages: Any) -> None:
        """Send JSON values to the other processes."""
        data = json.dumps(messages).encode()
        for outbox in self._outboxes:
            with suppress(OSError):  # the receiver is slow or gone
                outbox.send(data, socket.MSG_DONTWAIT)

    def listen(self, receive: Callable[..., object]) -> None:
        """Call `receive` with each message of another process, from now on."""
        inbox = self._inbox
        if inbox is None:
            return

        def take() -> None:
            with suppress(BlockingIOError):
                while True:
                    receive(*json.loads(inbox.recv(NEWS_BYTES_MAX)))

        inbox.setblocking(False)
        asyncio.get_running_loop().add_reader(inbox, take)


def size_of(rows: int) -> int:
    """Return the size of the shared memory in bytes."""
    return TOKENS_BYTES + KEYS_BYTES + rows * ROW_BYTES


def shared_memory(size: int) -> int:
    """Return the descriptor of zeroed memory that processes can share."""
    if hasattr(os, "memfd_create"):
        found = os.memfd_create("kvengine-server")
        os.ftruncate(found, size)
        return found
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())
