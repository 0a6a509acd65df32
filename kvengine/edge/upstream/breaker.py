"""The circuit breaker between an edge and its upstream: it avoids requests that would fail.

The polls for changes show whether the upstream answers: one is always in progress.  When polls fail
and no request was answered meanwhile, the breaker opens: readers immediately get a copy, marked
STALE, or the error.  The first poll that is answered closes it.  In case only changes are blocked,
one request at a time is sent as a probe, after increasing pauses with random jitter; its reader
waits for `grace_s`.

Invariants:

* While it is open, at most one request is in progress, however many readers there are.
* An answer to a poll or a request closes it.
* A refused reader gets the newest error, not the one that opened it.
"""

from __future__ import annotations

from collections.abc import Callable

from kvengine.edge.messages import NEVER
from kvengine.edge.settings import Settings
from kvengine.errors import RateLimited, UpstreamUnavailable, copied_error

UNREACHABLE = (UpstreamUnavailable, RateLimited, OSError)  # the upstream does not answer


class Breaker:
    """Decides whether a request may be sent to the upstream.

    Args:
        settings: of the edge.
        jitter: returns a random number from 0 to 1.

    Thread-safety: under the lock of the edge; `error` may be read without.
    """

    def __init__(self, settings: Settings, jitter: Callable[[], float]) -> None:
        self._settings, self._jitter = settings, jitter
        self.error: Exception | None = None  # why it is open, the newest; None: it is closed
        self._newest: Exception | None = None  # the newest error
        self._is_poll_failing = False  # the last poll failed
        self._answered_at = NEVER  # the last request, unless one failed after that
        self._failures = 0
        self._probe_at = self._probe_sent = NEVER
        self.open_count = 0

    def poll_answered(self) -> None:
        """A poll was answered."""
        self._is_poll_failing = False
        self._close()

    def poll_failed(self, error: Exception, now: float) -> bool:
        """A poll was not answered; return True if that opens it."""
        if not isinstance(error, UNREACHABLE):
            return False
        self._is_poll_failing = True
        return self._record_failure(error, now)

    def answered(self, now: float) -> None:
        """A request was answered."""
        self._answered_at = now
        self._close()

    def failed(self, error: Exception, now: float) -> bool:
        """A request was not answered; return True if that opens it."""
        if not isinstance(error, UNREACHABLE):
            return False
        self._answered_at = NEVER
        if self.error is not None:
            self._plan_probe(now)
        return self._record_failure(error, now)

    def allows(self, now: float) -> bool:
        """Return whether a request may be sent now; while the breaker is open, only a probe may."""
        if self.error is None:
            return True
        if now < self._probe_at or now < self._probe_sent + self._settings.timeout_s:
            return False
        self._probe_sent = now
        return True

    def refusal(self) -> Exception:
        """Return the error for a refused reader."""
        error = self._newest
        if isinstance(error, UpstreamUnavailable):
            return copied_error(error)
        return UpstreamUnavailable(f"the upstream does not answer: {error}")

    def _record_failure(self, error: Exception, now: float) -> bool:
        self._newest = error
        was_open = self.error is not None
        is_unresponsive = now - self._answered_at >= self._settings.grace_s
        if not was_open and not (self._is_poll_failing and is_unresponsive):
            return False
        self.error = error
        if was_open:
            return False
        self.open_count += 1
        self._plan_probe(now)
        return True

    def _plan_probe(self, now: float) -> None:
        settings = self._settings
        pause = min(settings.retry_s * 2 ** min(self._failures, 20), settings.retry_max_s)
        self._failures += 1
        self._probe_at, self._probe_sent = now + pause * (0.5 + self._jitter()), NEVER

    def _close(self) -> None:
        self.error, self._failures = None, 0
