"""Figures of a server: numbers of requests by surface, action and status, and their durations.

Invariants:

* A figure is about a kind of request; none contains a key, a value, a token or a path.
* Each process counts in its own row of shared memory (layout: figure_rows.py).  Readers get the
  sum of all rows.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from kvengine.database.edge import Edge
from kvengine.server.backend import Backend
from kvengine.server.http.messages import Request
from kvengine.server.monitoring import figure_rows as rows
from kvengine.server.monitoring.figure_rows import BOUNDS_S, BUCKETS, KINDS, STATUSES, Kind

SURFACES = {"client": "rest", "workerd": "workerd", "v1": "v1", "console": "console"}
METERED = {"read", "write", "delete", "list"}
HOT_KIND = Kind("hot", "read")  # reads that the fast path answered
# These counts follow the times of hot reads; see hot.pyx.
HOT_READS = (("rest", 200), ("workerd", 200), ("rest", 404), ("workerd", 404))
HOT_BITS = 64


class Times:
    """Durations of requests of a kind: counts by upper bound; the last has no bound."""

    def __init__(self, counts: list[int] | None = None, total_s: float = 0.0) -> None:
        self.counts = [0] * BUCKETS if counts is None else counts
        self.total_s = total_s

    def add(self, seconds: float, count: int = 1) -> None:
        """Count requests of this duration."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += count
        self.total_s += seconds * count

    def quantile(self, share: float) -> float:
        """Return the bound, in seconds, of this share of requests; 0.0 if there are none.

        It is infinite above the last bound.
        """
        wanted, seen = share * sum(self.counts), 0
        for bound, count in zip((*BOUNDS_S, float("inf")), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return 0.0


class Figures:
    """The figures of a server.

    Args:
        backend: of this process; its shared memory has the rows of the other processes.

    Thread-safety: for one event loop; other threads may read.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._row, self._rows = backend.shared.own, backend.shared.rows
        self.connections = 0

    def observe(self, request: Request, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        row = self._row
        kind = rows.kind_number(SURFACES.get(request.surface, "other"), request.action)
        row[rows.REQUESTS.start + kind * len(STATUSES) + rows.status_number(status)] += 1
        row[rows.TIMES.start + kind * BUCKETS + bisect_left(BOUNDS_S, seconds)] += 1
        row[rows.TOTALS.start + kind] += int(seconds * 1e9)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return sum(row[rows.CONNECTIONS] for row in self._rows)

    @connections.setter
    def connections(self, of_this_process: int) -> None:
        self._row[rows.CONNECTIONS] = of_this_process

    def _sums(self, part: slice) -> list[int]:
        """Return the sums of a part of the rows."""
        found = [row[part].tolist() for row in self._rows]
        return found[0] if len(found) == 1 else [sum(column) for column in zip(*found, strict=True)]

    def all_requests(self) -> dict[tuple[Kind, int], int]:
        """Return numbers of requests by kind and status, including hot reads."""
        found = {}
        for number, count in enumerate(self._sums(rows.REQUESTS)):
            if count:
                kind, status = divmod(number, len(STATUSES))
                found[KINDS[kind], STATUSES[status]] = count
        hot = self._sums(rows.HOT)[HOT_BITS:]
        for (surface, status), count in zip(HOT_READS, hot, strict=True):
            if count:
                key = (Kind(surface, "read"), status)
                found[key] = found.get(key, 0) + count
        return found

    def all_times(self) -> dict[Kind, Times]:
        """Return durations by kind; hot reads are a separate kind."""
        found = {}
        counts, totals = self._sums(rows.TIMES), self._sums(rows.TOTALS)
        for number, kind in enumerate(KINDS):
            of_kind = counts[number * BUCKETS : (number + 1) * BUCKETS]
            if any(of_kind):
                found[kind] = Times(of_kind, totals[number] / 1e9)
        hot = Times()
        for bits, count in enumerate(self._sums(rows.HOT)[:HOT_BITS]):
            if count:
                hot.add(2.0**bits * 1e-9, count)  # the upper bound of this count
        if any(hot.counts):
            found[HOT_KIND] = hot
        return found

    def of_action(self, action: str | None) -> Times:
        """Return durations of an action over REST and workerd; None: of all actions."""
        found = Times()
        for kind, times in self.all_times().items():
            asked = kind.action == action if action else kind.action in METERED
            if kind.surface in ("rest", "workerd", "hot") and asked:
                found.counts = [a + b for a, b in zip(found.counts, times.counts, strict=True)]
        return found

    def of_database(self) -> dict[str, Any]:
        """Return figures of the store, or of the edge."""
        db = self.backend.db._inner
        if isinstance(db, Edge):
            stats = db.stats()
            return {
                "edge_position": stats.position,
                "edge_lag_versions": stats.lag_versions,
                "edge_lag_seconds": stats.lag_seconds,
                "edge_connected": int(stats.connected),
                "edge_memory_bytes": stats.memory_bytes,
            }
        store = db.store.stats()
        return {
            "store_version": store.version,
            "store_keys": store.keys,
            "store_live_bytes": store.live_bytes,
            "store_log_bytes": store.log_bytes,
            "store_segments": store.segments,
            "store_index_bytes": store.index_bytes,
        }
