"""An edge reports to the primary, over HTTP, which version it has reached.

Invariants:

* It reports soon after it has reached a version, and otherwise once per second.
* A primary that does not answer costs the edge only a request from time to time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from kvengine.client.connection import Connection
from kvengine.client.packing import pack
from kvengine.engine.following.changes import Flag
from kvengine.errors import KvError

HEARTBEAT_S = 1.0
GAP_S = 0.25  # between two reports, at the least: a busy primary is not made busier
REACHED_MAX = 200  # versions in a report
AFTER_ERROR_S = 5.0
TIMEOUT_S = 2.0
logger = logging.getLogger("kvengine")


class Heartbeat:
    """Tells of an edge, on a thread of its own.

    Args:
        connection: to the primary; the caller closes it, after this.
        name: of the edge.
        report: gives position, reads, hits and memory_bytes.
    """

    def __init__(
        self, connection: Connection, name: str, report: Callable[[], dict[str, int]]
    ) -> None:
        self._connection, self._report = connection, report
        self._path = "/v1/edge/" + quote(name, safe="")
        self._reached: deque[tuple[int, float]] = deque(maxlen=REACHED_MAX)  # versions, and when
        self._position = -1
        self._news = Flag()
        self._ended = Flag()
        self._thread = threading.Thread(target=self._run, name="kvengine-heartbeat", daemon=True)

    def begin(self) -> None:
        """Start reporting."""
        self._thread.start()

    def reached(self, position: int) -> None:
        """Report that the edge has reached a version."""
        if position != self._position:
            self._position = position
            self._reached.append((position, time.monotonic()))
            self._news.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._news.clear()
            pause = GAP_S
            try:
                self._connection.post(self._path, pack(self._told()), TIMEOUT_S)
            except KvError as error:
                logger.info("can't report to the primary: %s", error)
                pause = AFTER_ERROR_S
            self._ended.wait(pause)
            self._news.wait(max(0.0, HEARTBEAT_S - pause))

    def _told(self) -> dict[str, Any]:
        reached = []
        while self._reached:  # the other thread may add to it
            reached.append(self._reached.popleft())
        found: dict[str, Any] = dict(self._report())  # then: its position is not behind those
        now = time.monotonic()
        return found | {"reached": [[version, now - moment] for version, moment in reached]}

    def close(self) -> None:
        """Stop reporting."""
        self._ended.set()
        self._news.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(2 * TIMEOUT_S)
