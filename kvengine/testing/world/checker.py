"""The checker: knows the whole history, and holds every read against what edges promise.

A key's history is a row of phases: the first begins with the world, each write adds two.  Phase 2n
is the value (or the absence) that write n made, phase 2n + 1 its absence once it has expired.  A
read shows one of these; which it may show depends on when they began and ended, and on earlier
reads and writes at the same node.

Invariants:

* Times are those of the world, which no node knows.
* A read is judged by when it began: what ended before that by more than its bound was too old.
* A value may be shown until it has expired by all clocks on the way to the primary, and may be
  absent once it has by one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kvengine.edge.counters import Histogram
from kvengine.edge.messages import ReadResult

SLACK_S = 1e-6  # of floating point


class State(NamedTuple):
    """A state of a key: absent (version 0) or a value, since a moment."""

    version: int  # of the value; 0: absent
    change: int  # the version of the primary at which it began
    since: float
    value: bytes | None
    expires_at: float | None = None  # by the clocks of nodes


Expiry = Callable[[str, float], tuple[float, float]]


class Violation(NamedTuple):
    """A promise that was not kept."""

    promise: str
    node: str
    key: bytes
    at: float
    what: str


class Checker:
    """Holds reads against the promises.

    Args:
        bound_s: how long a value may be shown after it changed.
        negative_s: how long "absent" may be shown after the key was made.
        expiry: gives the first and the last moment at which a node, or one between it and the
            primary, takes a value for expired; None: nothing expires.
    """

    def __init__(self, bound_s: float, negative_s: float, expiry: Expiry | None = None) -> None:
        self._bound_s, self._negative_s = bound_s, negative_s
        self._expiry: Expiry = expiry or (lambda node, moment: (moment, moment))
        self._histories: dict[bytes, list[State]] = {}
        self._last_seen: dict[tuple[str, bytes], tuple[int, float]] = {}  # phase, and since when
        self.violations: list[Violation] = []
        self.checked = 0
        self.after_write = 0  # reads within the bound after their key changed
        self.stale_after_write = 0  # of those, stale ones
        self.staleness = Histogram()  # seconds by which stale reads were behind

    # -- what happened

    def begin(
        self, key: bytes, version: int, value: bytes | None, expires_at: float | None = None
    ) -> None:
        """A key that will change has this value at the beginning (version 0: it is absent)."""
        state = State(version, version, float("-inf"), value, expires_at)
        self._histories.setdefault(key, [state])

    def changed(
        self,
        key: bytes,
        change: int,
        value: bytes | None,
        now: float,
        expires_at: float | None = None,
    ) -> None:
        """The primary has a new value of a key, or has it no more."""
        version = change if value is not None else 0
        self._histories[key].append(State(version, change, now, value, expires_at))

    def knows(self, key: bytes) -> bool:
        """True if a key ever changed."""
        return key in self._histories

    def changed_at(self, key: bytes) -> float | None:
        """Return when the newest state of a key began; None: with the world, or before."""
        history = self._histories.get(key)
        return history[-1].since if history is not None and len(history) > 1 else None

    def wrote(self, node: str, key: bytes, change: int, now: float) -> None:
        """A write at a node was acknowledged: reads that begin there now must see it."""
        self._advance(node, key, 2 * self._number_at(self._histories[key], change), now)

    # -- what was read

    def read(
        self,
        node: str,
        key: bytes,
        shown: ReadResult,
        began: float,
        ended: float,
        ttl: float,
        min_version: int = 0,
    ) -> None:
        """Judge a read of values at most `ttl` old and not before `min_version`."""
        self.checked += 1
        history = self._histories.get(key)
        if history is None:
            return
        phase = self._phase_of(node, history, shown, ended)
        if phase is None:
            self._violated("right value", node, key, began, f"version {shown.version} never was")
            return
        state = history[phase // 2]
        right = (None, None) if shown.version == 0 else (state.value, state.expires_at)
        if right != (shown.value, shown.expires_at):
            self._violated("right value", node, key, began, f"not that of {shown.version}")
        last = phase // 2 + 1 == len(history)
        over = float("inf") if last else history[phase // 2 + 1].since
        self._judge_age(node, key, shown, (began, ended), over, ttl)
        if shown.version and state.expires_at is not None:
            gone = self._expiry(node, state.expires_at)[1]
            if gone < began - SLACK_S:
                self._violated("expired is gone", node, key, began, f"for {began - gone:.3f} s")
        if min_version and not last and history[phase // 2 + 1].change <= min_version:
            self._violated(
                "min_version", node, key, began, f"{shown.version} is before {min_version}"
            )
        self._count(history, over, began)
        seen, since = self._last_seen.get((node, key), (0, 0.0))
        if phase < seen and since <= began:
            self._violated("never back", node, key, began, f"phase {phase} after {seen}")
        self._advance(node, key, phase, ended)

    def _judge_age(
        self,
        node: str,
        key: bytes,
        shown: ReadResult,
        times: tuple[float, float],
        over: float,
        ttl: float,
    ) -> None:
        began, ended = times
        bound = ttl if shown.version else self._negative_s
        if over < began - bound - SLACK_S:
            promise = "bound" if shown.version else "new keys at once"
            self._violated(promise, node, key, began, f"over for {began - over:.3f} s")
        if over < ended - shown.age - SLACK_S:
            self._violated("true age", node, key, began, f"said {shown.age:.3f} s")

    def _phase_of(
        self, node: str, history: list[State], shown: ReadResult, ended: float
    ) -> int | None:
        """Return which phase was shown; of several absences the newest that is not later."""
        for number in range(len(history) - 1, -1, -1):
            state = history[number]
            if state.version == shown.version and (shown.version or state.change <= shown.as_of):
                return 2 * number
            if shown.version or state.expires_at is None or state.change > shown.as_of:
                continue
            if self._expiry(node, state.expires_at)[0] <= ended + SLACK_S:
                return 2 * number + 1
        return None

    @staticmethod
    def _number_at(history: list[State], change: int) -> int:
        """Return which state there was at a version of the primary."""
        return max(number for number, state in enumerate(history) if state.change <= change)

    def _count(self, history: list[State], over: float, began: float) -> None:
        changed = history[-1].since
        for state in reversed(history):
            if state.since <= began:
                changed = state.since
                break
        recent = began - changed <= self._bound_s
        self.after_write += recent
        if over <= began:
            self.stale_after_write += recent
            self.staleness.add(began - over)

    def _advance(self, node: str, key: bytes, phase: int, now: float) -> None:
        seen, _ = self._last_seen.get((node, key), (0, 0.0))
        if phase > seen:
            self._last_seen[node, key] = (phase, now)

    def _violated(self, promise: str, node: str, key: bytes, at: float, what: str) -> None:
        self.violations.append(Violation(promise, node, key, at, what))
