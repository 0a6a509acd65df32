"""An edge node: caches popular values in front of an upstream, kept current by its changes.

PROMISES.md says what it promises and why.

Invariants:

* `synced_at` advances only when all changes up to `position` have been applied to the copies.
* If some changes are lost, earlier copies are trusted only as long as their own age allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvengine.edge.change_buffer import CallLater, ChangeBuffer
from kvengine.edge.disk import DiskCache
from kvengine.edge.lookup import CacheEntry
from kvengine.edge.messages import (
    NEVER,
    Answer,
    ChangeBatch,
    ChangeEvent,
    Done,
    KeyRequest,
    ReadOptions,
    ReadResult,
    Upstream,
)
from kvengine.edge.reading import Reading
from kvengine.edge.settings import Settings
from kvengine.errors import UpstreamUnavailable


class EdgeNode(Reading):
    """A cache in front of an upstream, and itself an upstream for other edges.

    Args:
        upstream: the primary or another edge.
        settings: see Settings.
        monotonic: returns the time, in seconds since any moment.
        wall: returns the time of day, by which keys expire.
        later: calls a function after some seconds.
        disk: copies that survive a restart.
        seed: makes evictions repeatable.
        changed: called with each key that has changed, and with None if any key may have.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        upstream: Upstream,
        settings: Settings,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        later: CallLater,
        disk: DiskCache | None = None,
        seed: int | None = None,
        changed: Callable[[bytes | None], None] | None = None,
    ) -> None:
        super().__init__(
            upstream, settings, monotonic=monotonic, wall=wall, later=later, disk=disk, seed=seed
        )
        self._changed = changed
        self.change_buffer = ChangeBuffer(
            settings.change_buffer_bytes, monotonic, later, lambda: monotonic() - self.synced_at
        )

    # -- changes

    def apply_changes(self, changes: ChangeBatch, sent: float) -> bool:
        """Apply changes; return False if earlier ones are missing, so the caller must poll again.

        Args:
            changes: from the upstream.
            sent: when the poll was sent, or a later moment at which it was still unanswered.
        """
        now = self._monotonic()
        in_transit = (now - sent) / 2  # of the request and of the answer, which is half of that
        applied: list[ChangeEvent] = []
        with self._lock:
            self.known_version = max(self.known_version, changes.upto)
            if changes.gone:
                if changes.upto <= self.position:
                    return True
                self._skip_to(changes.upto)
            elif changes.after > self.position:
                self._counters.gaps += 1
                return False
            else:
                self._apply_all(changes, now, in_transit, applied)
                if changes.upto < self.position:
                    return True
                self._reach(changes.upto)
            self.synced_at = max(self.synced_at, sent - changes.age)
        if changes.gone:
            self.change_buffer.restart(changes.upto)
        else:
            self.change_buffer.append(applied, changes.upto)
        return True

    def _skip_to(self, version: int) -> None:
        """Continue from a version though changes before it are missing."""
        self.covered_from = version
        self._reach(version)
        self._counters.resets += 1
        if self._changed is not None:
            self._changed(None)

    def _reach(self, version: int) -> None:
        self.position = version
        if self.copies.disk is not None:
            self.copies.disk.reach(version, self.covered_from)

    def _apply_all(
        self, changes: ChangeBatch, now: float, in_transit: float, applied: list[ChangeEvent]
    ) -> None:
        for event in changes.events:
            if event.version <= self.position:
                self._counters.duplicates += 1
            else:
                self._apply(event, now, event.ago + in_transit)
                applied.append(event._replace(ago=event.ago + in_transit))

    def _apply(self, event: ChangeEvent, now: float, ago: float) -> None:
        key, version = event.key, event.version
        self._counters.changes += 1
        self._counters.propagation.add(ago)
        self.watermarks.advance(key, version)
        if self._changed is not None:
            self._changed(key)
        cached = self.copies.peek(key)
        if cached is None or cached.version >= version:
            return
        if cached.read_at > now - ago:
            self._counters.read_late += 1
        if event.is_put and event.value is not None:
            self._counters.pushed += 1
            self.copies.keep(
                key,
                CacheEntry(event.value, event.metadata, event.expires_at, version, version, NEVER),
            )
        else:
            self._counters.invalidations += 1
            self.copies.drop(key)

    # -- writing

    def record_write(self, keys: Sequence[bytes] | None, version: int | None) -> None:
        """Record a write through this edge, so older values of its keys are not shown any more.

        Args:
            keys: None: unknown, so any key may have changed.
            version: of the write, or a later one of the primary; None or 0: unknown.  Then the edge
                asks the primary, and only reads of these keys wait for the answer.
        """
        with self._lock:
            self._counters.writes += 1 if keys is None else len(keys)
            for key in keys or ():
                self.copies.drop(key)
                if version:
                    self.watermarks.advance(key, version)
                else:
                    self.watermarks.mark_uncertain(key)
            if keys is None:
                if version:
                    self.watermarks.advance_all(version)
                else:
                    self.watermarks.mark_uncertain(None)
                self._set_min_version()
        if not version:
            self._resolve_uncertain()

    # -- as an upstream

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Call `done` with an Answer for each key that another edge requests."""
        if not requests:
            done([])
            return

        def arrived(results: list[ReadResult | Exception]) -> None:
            for result, request in zip(results, requests, strict=True):
                if isinstance(result, Exception):
                    done(result)
                    return
                if result.status == "STALE" and result.age > request.max_age_s:
                    done(UpstreamUnavailable("this edge can't reach its upstream"))
                    return
            done(
                [
                    _answer_of(shown, request)  # type: ignore[arg-type]
                    for shown, request in zip(results, requests, strict=True)
                ]
            )

        self.read_many(
            [
                (request.key, ReadOptions(request.max_age_s, request.min_version))
                for request in requests
            ],
            arrived,
        )

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Call `done` with the changes after a version that have reached this edge."""
        self.change_buffer.poll(after, poll_timeout_s, done)

    def origin_version(self, done: Done) -> None:
        """Ask the primary for its newest version, and call `done` with it."""
        self._upstream.origin_version(done)

    # -- starting and stopping

    def begin(self, origin_version: int) -> None:
        """Start: values older than this version of the primary may have been shown before.

        Args:
            origin_version: the newest version of the primary, requested after this edge started.
        """
        with self._lock:
            self.watermarks.advance_all(origin_version)
            self._set_min_version()
            disk = self.copies.disk
            if disk is not None:
                disk.begin(origin_version)
            if disk is not None and disk.position is not None:
                self.position, self.covered_from = disk.position
            else:
                self.covered_from = origin_version
                self._reach(origin_version)
            self.breaker.poll_answered()
            self.begun = True
        self.change_buffer.restart(self.position)

    def close_disk(self) -> None:
        """Save the position of the disk cache, and close it."""
        with self._lock:
            if self.copies.disk is not None:
                self.copies.disk.close()


def _answer_of(shown: ReadResult, request: KeyRequest) -> Answer:
    if shown.version and shown.version == request.known:
        return Answer(shown.version, shown.as_of, shown.age, unchanged=True)
    return Answer(
        shown.version, shown.as_of, shown.age, shown.value, shown.metadata, shown.expires_at
    )
