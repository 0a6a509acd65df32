"""Which locations there are, and when changes reached them, as far as they have told the center.

A location says which version it has reached, and how long ago that was.  From the moment at which
the center gives a change out, to the moment at which it hears that a location has it, is a little
longer than the change took: the news of its arrival had to come back.

Invariants:

* Memory does not grow with time, nor with what clients make up: both lists have a longest length.
* A time shown is never shorter than what it says it is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kvengine.errors import InvalidRequest

CHANGES_KEPT = 500
CHANGES_SHOWN = 12
LOCATIONS_MAX = 1000
NAME_CHARS_MAX = 64
LOST_S = 6.0  # a location tells something every second; after so long without, it is not there
FORGOTTEN_S = 600.0
VERSION_MAX = (1 << 48) - 1
FIGURES = ("reads", "hits", "memory_bytes")


@dataclass(slots=True)
class Made:
    """A change that the center has made."""

    version: int
    moment: float  # when the center gave it out, on the monotonic clock
    time: float  # of day, seconds since the epoch
    namespace_id: str | None  # None: something about a namespace, or a token
    key: str
    kind: str  # put, delete
    reached: dict[str, float] = field(default_factory=dict)  # location -> seconds, at the most


@dataclass(slots=True)
class Told:
    """What a location said last."""

    position: int
    moment: float  # when it said so
    last_s: float | None = None  # how long the last change took to reach it, at the most
    behind_since: float | None = None  # when the first change was made that has not reached it
    figures: dict[str, int] = field(default_factory=dict)


class Arrivals:
    """The locations of a center, and the changes on their way to them.

    Args:
        now: tells the time, in seconds, on a clock that is never set.

    Thread-safety: for one event loop.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._made: deque[Made] = deque(maxlen=CHANGES_KEPT)
        self._told: dict[str, Told] = {}
        self.version = 0  # the newest that the center has
        self.count = 0  # of what was noted, so that who waits sees that there is more

    def made(self, version: int, changes: Iterable[Made]) -> None:
        """Note that the center has come to a version, by these changes, the oldest first."""
        for change in changes:
            for name, told in self._told.items():
                if told.position >= change.version:  # it was faster than the center's own news
                    change.reached[name] = told.last_s = max(0.0, told.moment - change.moment)
                elif told.behind_since is None:
                    told.behind_since = change.moment
            self._made.append(change)
        self.version = max(self.version, version)
        self.count += 1

    def told(self, name: str, report: Any) -> None:
        """Note what a location says of itself.

        Args:
            name: of the location.
            report: position, a version; ago_s, how long ago it was reached; reads, hits and
                memory_bytes, whole numbers.

        Raises:
            InvalidRequest: it is something else, or there are too many locations.
        """
        position, ago_s, figures = checked(name, report)
        now = self._now()
        self._forget(now)
        if name not in self._told and len(self._told) >= LOCATIONS_MAX:
            raise InvalidRequest(f"there are {LOCATIONS_MAX} locations already")
        before = self._told.get(name)
        told = self._told[name] = Told(position, now, figures=figures)
        if before is not None:  # of one that is new it is not known when changes reached it
            told.last_s = before.last_s
            self._reached(name, before, told, now - ago_s)
        told.behind_since = self._behind_since(before, position)
        self.count += 1

    def _reached(self, name: str, before: Told, told: Told, moment: float) -> None:
        for change in self._made:
            if before.position < change.version <= told.position and name not in change.reached:
                change.reached[name] = told.last_s = max(0.0, moment - change.moment)

    def _behind_since(self, before: Told | None, position: int) -> float | None:
        number, first = next(
            ((n, one) for n, one in enumerate(self._made) if one.version > position), (0, None)
        )
        if first is None:
            return None
        if number == 0 and before is not None and before.behind_since is not None:
            return min(before.behind_since, first.moment)  # older ones were dropped
        return first.moment

    def _forget(self, now: float) -> None:
        gone = [name for name, told in self._told.items() if now - told.moment > FORGOTTEN_S]
        for name in gone:
            del self._told[name]

    def locations(self) -> list[dict[str, Any]]:
        """Return what is known of each location, by name, as JSON has it."""
        now = self._now()
        self._forget(now)
        found = []
        for name, told in sorted(self._told.items()):
            since = told.behind_since
            found.append({
                "name": name,
                "position": told.position,
                # Versions without a change for locations, such as usage, come with the next one.
                "lag_versions": max(0, self.version - told.position) if since is not None else 0,
                "lag_ms": 0.0 if since is None else round((now - since) * 1e3, 1),
                "last_ms": None if told.last_s is None else round(told.last_s * 1e3, 2),
                "silent_s": round(now - told.moment, 1),
                "is_there": now - told.moment < LOST_S,
                **told.figures,
            })  # fmt: skip
        return found

    def changes(self) -> list[dict[str, Any]]:
        """Return the newest changes, newest first, as JSON has them."""
        newest = list(self._made)[-CHANGES_SHOWN:]
        return [
            {
                "version": change.version,
                "time": round(change.time, 3),
                "namespace_id": change.namespace_id,
                "key": change.key,
                "kind": change.kind,
                "reached_ms": {
                    name: round(seconds * 1e3, 2) for name, seconds in change.reached.items()
                },
            }
            for change in reversed(newest)
        ]


def checked(name: str, report: Any) -> tuple[int, float, dict[str, int]]:
    """Return (position, seconds ago, figures) of what a location says.

    Raises:
        InvalidRequest: it is something else.
    """
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise InvalidRequest(f"a location's name has 1 to {NAME_CHARS_MAX} printable characters")
    if not isinstance(report, dict):
        raise InvalidRequest("a location tells an object with its position")
    position, ago_s = report.get("position"), report.get("ago_s", 0.0)
    if type(position) is not int or not 0 <= position <= VERSION_MAX:
        raise InvalidRequest("a location's position must be a version")
    if type(ago_s) not in (int, float) or not math.isfinite(ago_s) or not 0 <= ago_s < FORGOTTEN_S:
        raise InvalidRequest(f"ago_s must be seconds, from 0 to {FORGOTTEN_S:g}")
    figures = {figure: report.get(figure, 0) for figure in FIGURES}
    for figure, value in figures.items():
        if type(value) is not int or not 0 <= value <= VERSION_MAX:
            raise InvalidRequest(f"{figure} must be a whole number from 0 on")
    return position, float(ago_s), figures
