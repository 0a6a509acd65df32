"""The edges of a primary, and when changes reached them, as the edges report it.

An edge reports the versions that it has reached, and how long ago.  The time from the release of a
change at the primary to the report of its arrival includes the way of the report, so it is an
upper bound of the time that the change took.

Invariants:

* Memory does not grow with time or with what clients send: all lists are bounded.
* A time shown is never shorter than the actual time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from sortedcontainers import SortedDict, SortedKeyList

from kvengine.errors import InvalidRequest
from kvengine.options import VERSION_LIMIT

CHANGES_KEPT = 500
CHANGES_SHOWN = 12
REACHED_KEPT = 500  # of each edge
REACHED_AT_ONCE = 200  # in one report
EDGES_MAX = 1000
NAME_CHARS_MAX = 64
LOST_S = 6.0  # an edge reports every second; after so long without a report, it is offline
FORGOTTEN_S = 600.0
FIGURES = ("reads", "hits", "memory_bytes")


class Made(NamedTuple):
    """A change that the primary has made."""

    version: int
    moment: float  # when the primary released it, on the monotonic clock
    time: float  # of day, seconds since the epoch
    namespace_id: str | None  # None: a change of a namespace or a token
    key: str
    kind: str  # put, delete


@dataclass(slots=True)
class EdgeReport:
    """The latest report of an edge."""

    first: int  # its position in its first report; when it got there is not known
    position: int
    moment: float  # of its last report
    figures: dict[str, int]
    # Each version that it has reached, and the time, which is never too early.
    reached: SortedDict = field(default_factory=SortedDict)

    def seconds(self, change: Made) -> float | None:
        """Return an upper bound of the time a change took to arrive; None: unknown, or not yet."""
        if not self.first < change.version <= self.position or not self.reached:
            return None
        version = next(self.reached.irange(change.version))
        moment: float = self.reached[version]
        return max(0.0, moment - change.moment)


class Arrivals:
    """The edges of a primary, and the changes on their way to them.

    Args:
        now: returns the time, in seconds, on a monotonic clock.

    Thread-safety: for one event loop.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._made = SortedKeyList(key=lambda change: change.version)  # of Made
        self._reports: dict[str, EdgeReport] = {}
        self.version = 0  # the newest at the primary
        self.count = 0  # grows with each change or report, so that a waiting reader sees it

    def made(self, version: int, changes: Iterable[Made]) -> None:
        """Record that the primary reached a version by these changes, oldest first."""
        self._made.update(changes)
        del self._made[:-CHANGES_KEPT]
        self.version = max(self.version, version)
        self.count += 1

    def record(self, name: str, report: Any, now: float | None = None) -> None:
        """Record the report of an edge.

        Args:
            name: of the edge.
            report: position, a version; reached, a list of [version, seconds ago], oldest
                first; reads, hits and memory_bytes, whole numbers.
            now: the time of the report; None: now.

        Raises:
            InvalidRequest: the report is not valid, or there are too many edges.
        """
        position, reached, figures = checked(name, report)
        now = self._now() if now is None else now
        self._forget(now)
        edge = self._reports.get(name)
        if edge is None:
            if len(self._reports) >= EDGES_MAX:
                raise InvalidRequest(f"too many edges report here: at most {EDGES_MAX}")
            edge = self._reports[name] = EdgeReport(position, position, now, figures)
        newest = edge.reached.peekitem()[0] if edge.reached else edge.first
        for version, ago_s in [*reached, (position, 0.0)]:
            if version > newest:
                edge.reached[version] = now - ago_s
                newest = version
        while len(edge.reached) > REACHED_KEPT:
            edge.reached.popitem(0)
        edge.position, edge.moment, edge.figures = position, now, figures
        self.count += 1

    def _forget(self, now: float) -> None:
        gone = [name for name, edge in self._reports.items() if now - edge.moment > FORGOTTEN_S]
        for name in gone:
            del self._reports[name]

    def edges(self) -> list[dict[str, Any]]:
        """Return the state of each edge, by name, as JSON."""
        now = self._now()
        self._forget(now)
        return [self._shown(name, edge, now) for name, edge in sorted(self._reports.items())]

    def _shown(self, name: str, edge: EdgeReport, now: float) -> dict[str, Any]:
        number = self._made.bisect_key_right(edge.position)
        behind = len(self._made) - number
        times = [edge.seconds(change) for change in self._made[:number]]
        last = next((time for time in reversed(times) if time is not None), None)
        return {
            "name": name,
            "position": edge.position,
            # Versions without a change for edges, such as usage, arrive with the next change.
            "lag_versions": max(0, self.version - edge.position) if behind else 0,
            "lag_ms": round((now - self._made[number].moment) * 1e3, 1) if behind else 0.0,
            "lag_is_longer": behind == CHANGES_KEPT,  # older changes are forgotten
            "last_ms": None if last is None else round(last * 1e3, 2),
            "silent_s": round(now - edge.moment, 1),
            "is_there": now - edge.moment < LOST_S,
            **edge.figures,
        }

    def changes(self) -> list[dict[str, Any]]:
        """Return the newest changes, newest first, as JSON."""
        found = []
        for change in reversed(self._made[-CHANGES_SHOWN:]):
            times = {name: edge.seconds(change) for name, edge in self._reports.items()}
            found.append({
                "version": change.version,
                "time": round(change.time, 3),
                "namespace_id": change.namespace_id,
                "key": change.key,
                "kind": change.kind,
                "reached_ms": {
                    name: round(time * 1e3, 2) for name, time in times.items() if time is not None
                },
            })  # fmt: skip
        return found


def checked(name: str, report: Any) -> tuple[int, list[tuple[int, float]], dict[str, int]]:
    """Return (position, [(version, seconds ago)], figures) of the report of an edge.

    Raises:
        InvalidRequest: the report is not valid.
    """
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise InvalidRequest(f"an edge's name must be 1 to {NAME_CHARS_MAX} printable characters")
    if not isinstance(report, dict):
        raise InvalidRequest("an edge's report must be an object with its position")
    position, reached = report.get("position"), report.get("reached", [])
    if not _is_count(position):
        raise InvalidRequest("an edge's position must be a version")
    if not isinstance(reached, list) or len(reached) > REACHED_AT_ONCE:
        raise InvalidRequest(f"reached must be a list of at most {REACHED_AT_ONCE} items")
    for one in reached:
        if not (isinstance(one, list) and len(one) == 2 and _is_reached(one[0], one[1], position)):
            raise InvalidRequest("reached must hold [version, seconds ago], up to the position")
    figures = {figure: report.get(figure, 0) for figure in FIGURES}
    for figure, value in figures.items():
        if not _is_count(value):
            raise InvalidRequest(f"{figure} must be a whole number of at least 0")
    return position, [(version, float(ago_s)) for version, ago_s in reached], figures


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < VERSION_LIMIT


def _is_reached(version: Any, ago_s: Any, position: int) -> bool:
    if not _is_count(version) or version > position or type(ago_s) not in (int, float):
        return False
    return math.isfinite(ago_s) and 0 <= ago_s < FORGOTTEN_S
