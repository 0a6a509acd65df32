"""GET /v1/live: a line of JSON after each change or report, and at least one per second.

    {"time": ..., "version": ..., "figures": {...}, "changes": [...], "edges": [...]}

Figures are totals of all processes since the server started; for rates, subtract two lines.
Changes and edges are only for tokens that may read all namespaces.

Invariants:

* Without a connected client, nothing runs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from kvengine.errors import InvalidRequest
from kvengine.namespace.layout import DATA, PREFIX_BYTES, data_number
from kvengine.server.backend import Backend
from kvengine.server.http.admission import WATCHES
from kvengine.server.http.body.streaming import until
from kvengine.server.http.messages import Request, Response
from kvengine.server.monitoring.arrivals import CHANGES_KEPT, Arrivals, Made
from kvengine.server.monitoring.figure_rows import BOUNDS_S
from kvengine.server.monitoring.figures import HOT_KIND, METERED, Figures, Times

LINE_S = 1.0  # between two lines, at most
GAP_S = 0.05  # between two lines, at least
FAILURE = 500
BOUNDS_MS = [round(bound * 1e3, 6) for bound in BOUNDS_S]


class Live:
    """The events of a server.

    Args:
        backend: with a database.
        figures: of the server.
    """

    def __init__(self, backend: Backend, figures: Figures) -> None:
        self._backend, self._figures = backend, figures
        self.arrivals = Arrivals(time.monotonic)
        backend.shared.listen(self._report_elsewhere)

    # -- changes

    def record(self, name: str, report: Any) -> None:
        """Record the report of an edge; see Arrivals.record()."""
        now = time.monotonic()
        self.arrivals.record(name, report, now)
        self._backend.shared.tell(name, report, now)

    def _report_elsewhere(self, name: str, report: Any, moment: float) -> None:
        """Record the report that an edge sent to another process of this server."""
        with suppress(InvalidRequest):
            self.arrivals.record(name, report, moment)

    def _catch_up(self) -> None:
        """Record the changes since the last call, with their times from the change buffer."""
        buffer = self._backend.database._inner._primary_for_edges().change_buffer
        upto = buffer.version
        if upto == self.arrivals.version:
            return
        to_time_of_day = self._backend.clock.time() - time.monotonic()
        changes = [
            Made(
                event.version,
                made_at,
                made_at + to_time_of_day,
                *self._place(event.key),
                "put" if event.is_put else "delete",
            )
            for event, made_at in buffer.entries(self.arrivals.version)[-CHANGES_KEPT:]
            if event.version <= upto
        ]
        self.arrivals.made(upto, changes)

    def _place(self, key: bytes) -> tuple[str | None, str]:
        """Return the namespace id and the key of a key in the store."""
        if not key.startswith(DATA):
            return None, ""
        catalog = self._backend.database._inner._catalog
        name = key[PREFIX_BYTES:].decode("utf-8", "replace")
        return catalog.id_of(data_number(key)), name

    # -- lines

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        request.action = "watch"
        principal = await self._backend.admit(request, None, write=False, any_namespace=True)
        request.take(WATCHES)
        await request.drain()
        sees_all = principal.token.allows(None, write=False)
        lines = self._lines(request, sees_all=sees_all)
        return Response(200, lines, [(b"content-type", b"application/x-ndjson")])

    async def _lines(self, request: Request, *, sees_all: bool) -> AsyncGenerator[bytes, None]:
        gone = asyncio.ensure_future(until(request, self._backend.stopping))
        try:
            while not gone.done():
                self._catch_up()
                count, began = self.arrivals.count, time.monotonic()
                yield json.dumps(self.line(sees_all=sees_all)).encode() + b"\n"
                await asyncio.sleep(GAP_S)
                while (
                    self.arrivals.count == count
                    and time.monotonic() < began + LINE_S
                    and not gone.done()
                ):
                    await asyncio.wait([gone], timeout=GAP_S)
                    self._catch_up()
        finally:
            gone.cancel()

    def line(self, *, sees_all: bool) -> dict[str, Any]:
        """Return the fields of the next line."""
        db = self._backend.database
        return {
            "time": round(self._backend.clock.time(), 3),
            "version": db.version,
            "figures": summed(self._figures),
            "changes": self.arrivals.changes() if sees_all else [],
            "edges": self.arrivals.edges() if sees_all else [],
        }


def summed(figures: Figures) -> dict[str, Any]:
    """Return figures by action: numbers of requests and failures, and durations.

    `hot` is the number of reads that the fast path answered, from memory.  `times` are counts by
    upper bound in milliseconds; the last has no bound.
    """
    requests = dict.fromkeys(sorted(METERED), 0)
    failed = 0
    for (kind, status), count in figures.all_requests().items():
        if kind.action in requests:
            requests[kind.action] += count
            failed += count if status >= FAILURE else 0
    hot = figures.all_times().get(HOT_KIND, Times())
    return {
        "requests": requests,
        "failed": failed,
        "hot": sum(hot.counts),
        "bounds_ms": BOUNDS_MS,
        "times": {action: figures.of_action(action).counts for action in requests},
    }
