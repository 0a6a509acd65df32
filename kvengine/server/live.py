"""GET /v1/live: a line of JSON whenever something happens, and at least one a second.

    {"time": ..., "version": ..., "figures": {...}, "changes": [...], "locations": [...]}

Figures are counted since the process began; a program that wants rates takes two lines.  Changes
and locations are for tokens that may read everything; others get none.

Invariants:

* Nothing runs while nobody listens and no location has told of itself.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from kvengine.namespace.layout import DATA, PREFIX_BYTES, data_number
from kvengine.server.arrivals import CHANGES_KEPT, Arrivals, Made
from kvengine.server.backend import Backend
from kvengine.server.figures import BOUNDS_S, METERED, Figures, Kind, Times
from kvengine.server.going_on import until
from kvengine.server.log_door import future_of
from kvengine.server.messages import Request, Response
from kvengine.tier.board import Posted

LINE_S = 1.0  # between two lines, at the most
GAP_S = 0.05  # between two lines, at the least
NEWS_GAP_S = 0.005
HOLD_S = 1.0
IDLE_S = 60.0
FAILURE = 500
HOT = Kind("hot", "read")
BOUNDS_MS = [round(bound * 1e3, 6) for bound in BOUNDS_S]
logger = logging.getLogger("kvengine.server")


class Live:
    """What happens at a server.

    Args:
        backend: with a database.
        figures: of the process.
    """

    def __init__(self, backend: Backend, figures: Figures) -> None:
        self._backend, self._figures = backend, figures
        self.arrivals = Arrivals(time.monotonic)
        self._watching: asyncio.Task[None] | None = None
        self._wanted = 0.0  # when somebody last wanted to know

    # -- changes

    def told(self, name: str, report: Any) -> None:
        """Note what a location says of itself; see Arrivals.told()."""
        self.watch()
        self.arrivals.told(name, report)

    def watch(self) -> None:
        """Watch the changes of the database for a while, from now on."""
        self._wanted = time.monotonic()
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        center = self._backend.database._inner._center_of_locations()
        after = self._backend.database.version
        stopping = asyncio.ensure_future(self._backend.stopping.wait())
        try:
            while time.monotonic() < self._wanted + IDLE_S:
                told = future_of(functools.partial(center.poll, after, HOLD_S))
                await asyncio.wait([told, stopping], return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    told.cancel()
                    return
                news = told.result()
                if isinstance(news, Exception):
                    logger.info("changes are not watched: %s", news)
                    return
                behind = center.board.posted(after)
                self._heard([one for one in behind if one.notice.version <= news.upto], news.upto)
                after = news.upto
                await asyncio.sleep(NEWS_GAP_S)
        finally:
            stopping.cancel()

    def _heard(self, posted: list[Posted], upto: int) -> None:
        """Note changes; when they were made the board knows, it is later by now."""
        to_time_of_day = self._backend.clock.time() - time.monotonic()
        changes = [
            Made(
                notice.version,
                made_at,
                made_at + to_time_of_day,
                *self._place(notice.key),
                "put" if notice.is_put else "delete",
            )
            for notice, made_at in posted[-CHANGES_KEPT:]
        ]
        self.arrivals.made(upto, changes)

    def _place(self, key: bytes) -> tuple[str | None, str]:
        """Return the namespace and the key that people know."""
        if not key.startswith(DATA):
            return None, ""
        catalog = self._backend.database._inner._catalog
        name = key[PREFIX_BYTES:].decode("utf-8", "replace")
        return catalog.id_of(data_number(key)), name

    # -- lines

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        request.action = "watch"
        access = self._backend.access
        principal = await access.admit(
            request.header(b"authorization"), None, write=False, any_namespace=True
        )
        await request.drain()
        sees_all = principal.token.allows(None, write=False)
        lines = self._lines(request, sees_all=sees_all)
        return Response(200, lines, [(b"content-type", b"application/x-ndjson")])

    async def _lines(self, request: Request, *, sees_all: bool) -> AsyncGenerator[bytes, None]:
        gone = asyncio.ensure_future(until(request, self._backend.stopping))
        try:
            while not gone.done():
                self.watch()
                count, began = self.arrivals.count, time.monotonic()
                yield json.dumps(self.line(sees_all=sees_all)).encode() + b"\n"
                await asyncio.sleep(GAP_S)
                while (
                    self.arrivals.count == count
                    and time.monotonic() < began + LINE_S
                    and not gone.done()
                ):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(gone), GAP_S)
        finally:
            gone.cancel()

    def line(self, *, sees_all: bool) -> dict[str, Any]:
        """Return what there is to say now."""
        db = self._backend.database
        return {
            "time": round(self._backend.clock.time(), 3),
            "version": db.version,
            "figures": summed(self._figures),
            "changes": self.arrivals.changes() if sees_all else [],
            "locations": self.arrivals.locations() if sees_all else [],
        }


def summed(figures: Figures) -> dict[str, Any]:
    """Return figures by action: how many requests, how many failed, how long they took.

    `hot` is how many of the reads were answered without a door: of keys that are at hand in memory.
    `times` are counts by upper bound in milliseconds, the last without one.
    """
    requests = dict.fromkeys(sorted(METERED), 0)
    failed = 0
    for (kind, status), count in figures.all_requests().items():
        if kind.action in requests:
            requests[kind.action] += count
            failed += count if status >= FAILURE else 0
    hot = figures.all_times().get(HOT, Times())
    return {
        "requests": requests,
        "failed": failed,
        "hot": sum(hot.counts),
        "bounds_ms": BOUNDS_MS,
        "times": {action: figures.of_action(action).counts for action in requests},
    }
