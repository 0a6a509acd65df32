"""What a server process has done, counted: requests by surface, action and status, and their times.

Invariants:

* A figure is about a kind of request; no key, value, token or path is in any.
* Memory does not grow with what clients send: surfaces, actions and statuses are few.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, NamedTuple

from kvengine.database.edge import Edge
from kvengine.server.backend import Backend
from kvengine.server.messages import Request

BOUNDS_S = (
    0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.0001, 0.0002, 0.0005, 0.001, 0.002,
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
SURFACES = {"client": "rest", "workerd": "workerd", "v1": "v1", "console": "console"}
METERED = {"read", "write", "delete", "list"}


class Kind(NamedTuple):
    """A kind of request."""

    surface: str  # rest, workerd, v1, console, other
    action: str  # read, write, delete, list, admin, health, other


class Times:
    """How long requests of a kind took: counts by upper bound, the last without one."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count requests that took so long."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += count
        self.total_s += seconds * count

    def copy(self) -> Times:
        """Return the same counts, which stay as they are."""
        twin = Times()
        twin.counts, twin.total_s = list(self.counts), self.total_s
        return twin

    def quantile(self, share: float) -> float:
        """Return a bound, in seconds, that this share of all is not above; 0.0 if there are none.

        Above the last bound it is infinite.
        """
        wanted, seen = share * sum(self.counts), 0
        for bound, count in zip((*BOUNDS_S, float("inf")), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return 0.0


class Figures:
    """The figures of a server process.

    Args:
        backend: whose hot reads are counted too.

    Thread-safety: for one event loop.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.requests: dict[tuple[Kind, int], int] = {}
        self._times: dict[Kind, Times] = {}
        self._told: dict[tuple[Kind, int], int] = {}
        self._told_times: dict[Kind, Times] = {}

    def take(self) -> dict[str, Any]:
        """Return what was counted since the last call, as JSON has it; for add() elsewhere."""
        requests, times = self.all_requests(), self.all_times()
        found: dict[str, Any] = {"requests": [], "times": []}
        for (kind, status), count in requests.items():
            new = count - self._told.get((kind, status), 0)
            if new:
                found["requests"].append([*kind, status, new])
        for kind, time in times.items():
            old = self._told_times.get(kind, Times())
            counts = [now - then for now, then in zip(time.counts, old.counts, strict=True)]
            if any(counts):
                found["times"].append([*kind, counts, time.total_s - old.total_s])
        self._told = requests
        self._told_times = {kind: time.copy() for kind, time in times.items()}
        return found

    def add(self, taken: dict[str, Any]) -> None:
        """Count what another process has counted."""
        for surface, action, status, count in taken["requests"]:
            key = (Kind(surface, action), status)
            self.requests[key] = self.requests.get(key, 0) + count
        for surface, action, counts, total_s in taken["times"]:
            times = self._times.setdefault(Kind(surface, action), Times())
            times.counts = [a + b for a, b in zip(times.counts, counts, strict=True)]
            times.total_s += total_s

    def observe(self, request: Request, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        kind = Kind(SURFACES.get(request.surface, "other"), request.action)
        self.requests[kind, status] = self.requests.get((kind, status), 0) + 1
        self._times.setdefault(kind, Times()).add(seconds)

    def all_requests(self) -> dict[tuple[Kind, int], int]:
        """Return how many requests there were by kind and status, hot reads too."""
        found = dict(self.requests)
        hot = self.backend.hot
        for surface, status, count in (
            ("rest", 200, hot.hits - hot.workerd_hits),
            ("workerd", 200, hot.workerd_hits),
            ("rest", 404, hot.rest_absent),
            ("workerd", 404, hot.absent),
        ):
            if count:
                key = (Kind(surface, "read"), status)
                found[key] = found.get(key, 0) + count
        return found

    def all_times(self) -> dict[Kind, Times]:
        """Return how long requests took, by kind; hot reads are a kind of their own."""
        found = dict(self._times)
        hot = self._times.get(Kind("hot", "read"), Times()).copy()
        for bits, count in enumerate(self.backend.hot.histogram()):
            if count:
                hot.add(2.0**bits * 1e-9, count)  # the upper end of what was counted there
        if any(hot.counts):
            found[Kind("hot", "read")] = hot
        return found

    def of_action(self, action: str | None) -> Times:
        """Return how long requests took that did something; None: all of REST and workerd."""
        found = Times()
        for kind, times in self.all_times().items():
            asked = kind.action == action if action else kind.action in METERED
            if kind.surface in ("rest", "workerd", "hot") and asked:
                found.counts = [a + b for a, b in zip(found.counts, times.counts, strict=True)]
        return found

    def of_database(self) -> dict[str, Any]:
        """Return figures of the store, or of the location."""
        db = self.backend.db._inner
        if isinstance(db, Edge):
            stats = db.stats()
            return {
                "location_position": stats.position,
                "location_lag_versions": stats.lag_versions,
                "location_lag_seconds": stats.lag_seconds,
                "location_connected": int(stats.connected),
                "location_memory_bytes": stats.memory_bytes,
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
