"""ChangePoller: the polls by which an edge gets changes.

Invariants:

* One poll is in progress or scheduled; an answer to an older one never undoes newer state.
* Each poll asks from the version reached so far, so the next poll repairs any loss, repetition or
  delay.
* After a failure the pauses grow, with random jitter.
* The breaker learns of an error before `error` shows it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from kvengine.edge.change_buffer import CallLater
from kvengine.edge.messages import ChangeBatch, Upstream
from kvengine.edge.node import EdgeNode


class ChangePoller:
    """Polls the upstream of an edge for changes.

    Args:
        edge: gets the changes.
        upstream: is polled.
        monotonic: returns the time, in seconds.
        later: calls a function after some seconds.
        jitter: returns a random number from 0 to 1.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        edge: EdgeNode,
        upstream: Upstream,
        *,
        monotonic: Callable[[], float],
        later: CallLater,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._edge, self._upstream = edge, upstream
        self._monotonic, self._later, self._jitter = monotonic, later, jitter
        self._lock = threading.Lock()
        self._polls = 0
        self._failures = 0
        self._closed = False
        self.error: Exception | None = None  # of the last poll

    @property
    def connected(self) -> bool:
        """True if the last poll was answered."""
        return self._edge.begun and self.error is None

    def begin(self) -> None:
        """Start: get the newest version of the primary, then poll."""
        with self._lock:
            if self._closed:
                return
            self._polls += 1
            number = self._polls
        self._later(self._edge.settings.timeout_s, lambda: self._on_timeout(number, self.begin))
        self._upstream.origin_version(lambda version: self._on_start(number, version))

    def close(self) -> None:
        """Stop polling."""
        self._closed = True

    def _on_start(self, number: int, version: int | Exception) -> None:
        if self._closed or self._edge.begun:
            return
        if isinstance(version, Exception):
            if number == self._polls:
                self._after_failure(version, self.begin)
        else:  # a late answer will do: it was asked after the edge began
            self._edge.begin(version)
            self.poll()

    def poll(self) -> None:
        """Poll for changes."""
        with self._lock:
            if self._closed:
                return
            self._polls += 1
            number = self._polls
        sent = self._monotonic()
        settings = self._edge.settings
        self._later(
            settings.poll_timeout_s + settings.grace_s, lambda: self._on_timeout(number, self.poll)
        )
        self._upstream.poll(
            self._edge.position,
            settings.poll_timeout_s,
            lambda changes: self._on_changes(number, sent, changes),
        )

    def _on_changes(self, number: int, sent: float, changes: ChangeBatch | Exception) -> None:
        if self._closed:
            return
        is_next = number == self._polls
        if isinstance(changes, Exception):
            if is_next:
                self._after_failure(changes, self.poll)
            return
        applied = self._edge.apply_changes(changes, sent + changes.waited)
        if not is_next:
            return
        self._edge.poll_answered()
        self.error = None
        if applied and changes.upto >= self._edge.position:
            self._failures = 0
            self.poll()
        else:  # the upstream is behind, or answered another request: do not spin
            self._pause(self.poll)

    def _on_timeout(self, number: int, again: Callable[[], None]) -> None:
        if number == self._polls and not self._closed:
            self._after_failure(TimeoutError("no answer to a poll"), again)

    def _after_failure(self, error: Exception, again: Callable[[], None]) -> None:
        self._edge.poll_failed(error)
        self.error = error
        self._pause(again)

    def _pause(self, again: Callable[[], None]) -> None:
        settings = self._edge.settings
        with self._lock:
            if self._closed:
                return
            self._polls += 1  # so an answer that still comes counts as late
            planned = self._polls
            pause = min(settings.retry_s * 2 ** min(self._failures, 20), settings.retry_max_s)
            self._failures += 1

        def resume() -> None:
            if planned == self._polls:
                again()

        self._later(pause * (0.5 + self._jitter()), resume)
