"""The job lease, which one store of all processes holds; the others wait, or leave the jobs to it.

Invariants:

* While a job runs, a separate thread renews the lease on the control page, even if the job is
  blocked in a system call.  So others take the lease from a process that was killed or stopped, not
  from a slow one.
* It relies on the clock, so nothing relies on it alone: see commit_manifest() in log_end.pyx.
"""

from __future__ import annotations

import weakref

from kvengine.engine.access.log_end import LogEnd
from kvengine.engine.jobs.worker import Worker

STALE_MS = 2000  # a process that was not seen at its job for so long is gone, or was stopped
BEAT_S = 0.5  # how often one is seen


class JobStopped(Exception):
    """A job was cancelled at a safe point; it changed nothing."""


class JobsLost(JobStopped):
    """The same, because another process took the lease, which was not renewed in time."""


class JobLease:
    """The lease of one store.

    Args:
        store: the store that takes the lease.
        token: by which other processes know the store.

    Thread-safety: the thread that does the job claims and ends it; any may look.
    """

    def __init__(self, store: LogEnd, token: int) -> None:
        self.belong_to(store)
        self._own_token = token
        self._worker = Worker(self._beat)  # its thread is there while a job runs
        self.token = 0  # of the store, from claim() to end()

    def belong_to(self, store: LogEnd) -> None:
        """Know the store, also one that is about to go: the collector has cut what was weak."""
        self._store = weakref.ref(store)

    def claim(self, waits: bool = False) -> bool:
        """Have the lease from now on; False if another store has it.  See LogEnd.claim_jobs()."""
        store = self._store()
        if store is None or not store.claim_jobs(self._own_token, STALE_MS, waits):
            return False
        self.token = self._own_token
        self._worker.wake()  # if no thread is to be had, has_gone() must do
        return True

    def has_gone(self) -> bool:
        """True if another store has taken it over."""
        store = self._store()
        return store is not None and self.token != 0 and not store.still_has_jobs(self.token)

    def end(self) -> None:
        """Another process may do the next job."""
        store, token, self.token = self._store(), self.token, 0
        if store is not None and token and not store.is_refused:
            store.end_jobs(token)
        self.stop()

    def stop(self) -> None:
        """Wait until the thread has ended."""
        self._worker.stop()

    def after_fork_in_child(self) -> None:
        """Forget the thread and the lease: they belong to the parent process."""
        self.token = 0
        self._worker.after_fork_in_child()

    def _beat(self) -> float | None:
        return BEAT_S if self.token and not self.has_gone() else None
