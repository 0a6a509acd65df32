"""Durability "interval": writes are synced a little later, on a separate thread.

Invariants:

* The thread waits for nothing except a sync in progress.
* A sync that fails in the background is retried, unless it made the store read-only.
"""

from __future__ import annotations

import time

from kvengine.engine.jobs.job_thread import Failures
from kvengine.engine.jobs.worker import Worker
from kvengine.engine.log.durable import CommitGroup
from kvengine.errors import StoreReadOnly


class IntervalSync:
    """Durability "interval": a thread that syncs, and waits for nothing else.

    It syncs again and again where that is the durability of the store, else when it is asked to.

    Thread-safety: any thread may use it.
    """

    def __init__(self) -> None:
        self._worker = Worker(self._step)
        self._commits: CommitGroup | None = None
        self._interval_s = 0.0
        self._is_lasting = False
        self._due_at: float | None = None  # when what was asked for is to be synced
        self.failures = Failures()

    def begin(self, commits: CommitGroup, interval_s: float) -> None:
        """Bring everything written to disk again and again, each time so many seconds later."""
        self._is_lasting = True
        self.ask(commits, interval_s)

    def ask(self, commits: CommitGroup, interval_s: float) -> None:
        """Bring what was written to disk, within so many seconds; not needed if `is_sync_due`."""
        self._commits, self._interval_s = commits, interval_s
        if not self._worker.wake():
            commits.sync()  # no thread is to be had

    def close(self) -> None:
        """Wait until the thread has ended."""
        self._worker.stop()

    def reopen(self) -> None:
        """Go on after a close() that was not the end after all."""
        if self._commits is not None:
            self._worker.wake()

    def after_fork_in_child(self) -> None:
        """The thread is not in this process."""
        self._worker.after_fork_in_child()

    def _step(self) -> float | None:
        begun, commits = time.monotonic(), self._commits
        if commits is None:
            return None
        if not self._is_lasting:
            if self._due_at is None:
                self._due_at = begun + self._interval_s
                commits.is_sync_due = True
            if begun < self._due_at:
                return self._due_at - begun
            self._due_at = None
        commits.is_sync_due = self._is_lasting  # else the next write requests it again
        try:
            commits.sync()
        except StoreReadOnly as error:  # it made the store read-only; there is nothing to retry
            self.failures.note(error)
            return None
        except BaseException as error:  # noqa: BLE001  # nothing may end the thread
            self.failures.note(error)
            self._due_at = begun
            return self.failures.pause_s()
        self.failures.over()
        return max(self._interval_s - (time.monotonic() - begun), 0.0) if self._is_lasting else None
