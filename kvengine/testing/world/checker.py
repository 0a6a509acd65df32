"""The checker: knows the whole history, and holds every read against what locations promise.

A key's life is numbered: state 0 is how the world began, each write makes the next one.  A read
shows one of these states; what it may be depends on when the states began and ended, and on what
was read and written at the same place before.

Invariants:

* Times are those of the world, which no place knows.
* A read is judged by when it began: what ended before that by more than its bound was too old.
"""

from __future__ import annotations

from typing import NamedTuple

from kvengine.tier.messages import Shown

SLACK_S = 1e-6  # of floating point


class State(NamedTuple):
    """A state of a key: absent (version 0) or a value, since a moment."""

    version: int  # of the value; 0: absent
    change: int  # the version of the center at which it began
    since: float
    value: bytes | None


class Violation(NamedTuple):
    """A promise that was not kept."""

    promise: str
    place: str
    key: bytes
    at: float
    what: str


class Checker:
    """Holds reads against the promises.

    Args:
        initial: gives the value and version with which a key began, or None.
        bound_s: how long a value may be shown after it changed.
        negative_s: how long "absent" may be shown after the key was made.
    """

    def __init__(self, bound_s: float, negative_s: float) -> None:
        self._bound_s, self._negative_s = bound_s, negative_s
        self._lives: dict[bytes, list[State]] = {}
        self._floor: dict[tuple[str, bytes], tuple[int, float]] = {}  # state, and since when
        self.violations: list[Violation] = []
        self.checked = 0
        self.stale = 0  # reads that showed what was not the newest when they began
        self.after_write = 0  # reads within the bound after their key changed
        self.stale_after_write = 0  # of those, stale ones
        self.worst_age = 0.0  # seconds by which a stale read was behind, at the most

    # -- what happened

    def begin(self, key: bytes, version: int, value: bytes | None) -> None:
        """A key that will change has this value at the beginning (version 0: it is absent)."""
        self._lives.setdefault(key, [State(version, version, float("-inf"), value)])

    def changed(self, key: bytes, change: int, value: bytes | None, now: float) -> None:
        """The center has a new value of a key, or has it no more."""
        life = self._lives[key]
        life.append(State(change if value is not None else 0, change, now, value))

    def knows(self, key: bytes) -> bool:
        """True if a key ever changed."""
        return key in self._lives

    def changed_at(self, key: bytes) -> float | None:
        """Return when the newest state of a key began; None: with the world, or before."""
        life = self._lives.get(key)
        return life[-1].since if life is not None and len(life) > 1 else None

    def wrote(self, place: str, key: bytes, change: int, now: float) -> None:
        """A write at a place was acknowledged: reads that begin there now must see it."""
        life = self._lives[key]
        state = max(number for number, state in enumerate(life) if state.change <= change)
        self._lift(place, key, state, now)

    # -- what was read

    def read(
        self, place: str, key: bytes, shown: Shown, began: float, ended: float, ttl: float
    ) -> None:
        """Judge a read."""
        self.checked += 1
        life = self._lives.get(key)
        if life is None:
            return
        state = self._state_of(life, shown, began)
        if state is None:
            self._violated("right value", place, key, began, f"version {shown.version} never was")
            return
        if life[state].value != shown.value:
            self._violated("right value", place, key, began, f"not that of {shown.version}")
        over = life[state + 1].since if state + 1 < len(life) else float("inf")
        self._count(life, over, began)
        bound = ttl if shown.version else self._negative_s
        if over < began - bound - SLACK_S:
            promise = "bound" if shown.version else "new keys at once"
            self._violated(promise, place, key, began, f"over for {began - over:.3f} s")
        if over < ended - shown.age - SLACK_S:
            self._violated("true age", place, key, began, f"said {shown.age:.3f} s")
        floor, since = self._floor.get((place, key), (0, 0.0))
        if state < floor and since <= began:
            self._violated("never back", place, key, began, f"state {state} after {floor}")
        self._lift(place, key, state, ended)

    def _state_of(self, life: list[State], shown: Shown, began: float) -> int | None:
        """Return which state was shown; of several absences the newest that is not later."""
        for number in range(len(life) - 1, -1, -1):
            state = life[number]
            if state.version == shown.version and (shown.version or state.change <= shown.as_of):
                return number
        return None

    def _count(self, life: list[State], over: float, began: float) -> None:
        changed = life[-1].since
        for state in reversed(life):
            if state.since <= began:
                changed = state.since
                break
        recent = began - changed <= self._bound_s
        self.after_write += recent
        if over <= began:
            self.stale += 1
            self.stale_after_write += recent
            self.worst_age = max(self.worst_age, began - over)

    def _lift(self, place: str, key: bytes, state: int, now: float) -> None:
        floor, _ = self._floor.get((place, key), (0, 0.0))
        if state > floor:
            self._floor[place, key] = (state, now)

    def _violated(self, promise: str, place: str, key: bytes, at: float, what: str) -> None:
        self.violations.append(Violation(promise, place, key, at, what))
