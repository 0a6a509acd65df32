"""Jobs: changes to the set of files of a store, one after the other, on a separate thread.

Invariants:

* A job runs on a thread that receives no signals, so nothing interrupts it between two steps that
  belong together.  Its caller waits; Ctrl-C ends the wait, and the job stops at its next safe
  point, or is done.
* The thread starts with the first work that needs it, so small stores have none.  It refers to the
  store weakly, so a store without references is freed.
* Nothing ends background work for good: a job that fails changes nothing, whatever it raised.  It
  is retried after increasing pauses, and stats() shows the failure.
* Callbacks of users (progress) run in the caller's thread and under no lock.
"""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from kvengine.clock import SystemClock
from kvengine.engine.jobs.holding import Hold, OwnedLock
from kvengine.engine.jobs.job_lease import JobLease, JobsLost, JobStopped
from kvengine.engine.jobs.worker import Task, Worker
from kvengine.errors import InvalidRequest, copied_error
from kvengine.file.folder import rest

T = TypeVar("T")
Progress = Callable[[int, int], None]
logger = logging.getLogger("kvengine")
IDLE_S = 1.0  # between two checks for work that was not announced
RETRY_S, RETRY_MAX_S = 1.0, 60.0  # after a failure; twice as long after each further one
GRACE_S = 0.5  # so long an interrupted caller waits for its job to stop
LOOK_S = 1.0  # how often a waiting caller looks whether there is a thread to carry its job out
PROGRESS_S = 0.05  # how often a waiting caller checks the progress of its job
POLL_S = 0.01  # between two checks whether another process has done the job
REST_S = 0.05  # how long a job rests before it looks whether it is to stop


class JobStore(Protocol):
    """What a store is to its jobs."""

    jobs: OwnedLock  # held while a job runs
    files: OwnedLock  # held while a job, or starting over, changes what there is

    def refuse_inside(self) -> None: ...
    def resume(self) -> None: ...
    def in_step(self) -> None: ...
    def follow_files(self) -> None: ...
    def leaves_jobs_to_others(self) -> bool: ...


class Reports:
    """How far a job has come, on the way from its thread to the function that the caller gave."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._news: deque[tuple[int, int]] = deque()
        self.add = None if progress is None else self._add

    def _add(self, done: int, total: int) -> None:
        self._news.append((done, total))

    def deliver(self) -> None:
        """Call the function with what came since, in the thread that waits for the job."""
        while self._progress is not None and self._news:
            self._progress(*self._news.popleft())


class Failures:
    """What went wrong in the background.

    Thread-safety: threads may share it; a count may be off by one when two fail at once.
    """

    def __init__(self) -> None:
        self.consecutive = 0
        self.last_error: str | None = None
        self.last_error_at: float | None = None  # Unix time
        self._logged: set[str] = set()

    def note(self, error: BaseException) -> None:
        """Keep what an error says (itself it would keep frames, and with them the store)."""
        self.consecutive += 1
        self.last_error = f"{type(error).__name__}: {error}"
        self.last_error_at = SystemClock().time()
        if self.last_error not in self._logged:
            self._logged.add(self.last_error)
            with contextlib.suppress(BaseException):  # a handler of the user
                logger.warning("background work failed and will be retried: %s", self.last_error)

    def over(self) -> None:
        """The last attempt succeeded."""
        self.consecutive = 0
        self._logged.clear()

    def pause_s(self) -> float:
        """Return how long to wait before the next attempt."""
        return min(RETRY_S * 2.0 ** min(self.consecutive - 1, 16), RETRY_MAX_S)


class JobThread:
    """The thread that carries out the jobs of one store.

    Args:
        store: the store that the jobs belong to.
        lease: the right to do them.
        work: does what is due; called in the background once wake() was.

    Thread-safety: any thread may ask for jobs.
    """

    def __init__(self, store: JobStore, lease: JobLease, work: Callable[[Any], None]) -> None:
        self._store = weakref.ref(store)
        self._lock = store.jobs
        self._work = work
        self._tasks: deque[Task] = deque()
        self._current: Task | None = None  # None while it is background work
        self._worker: Worker | None = None
        self._is_watching = False  # wake() was called: there may be work at any time
        self._retry_at = 0.0
        self.lease = lease
        self._hold: Hold | None = None  # so long nothing else changes which files there are
        self._closed: BaseException | None = None
        self.is_stopping = False  # no background work: the store is being closed
        self.failures = Failures()

    def belong_to(self, store: JobStore) -> None:
        """Know the store again, which is about to go: the collector has cut what was weak."""
        self._store = weakref.ref(store)

    def wake(self) -> None:
        """There may be work; start the thread if there is none yet."""
        self._is_watching = True
        if not self.is_stopping:
            self._thread().wake()  # where none can be started, the next wake() tries again

    def watch(self) -> None:
        """The same, in a moment: another process has made the work, and may do it itself."""
        if not self._is_watching:
            self._retry_at = time.monotonic() + IDLE_S
            self.wake()

    def run(self, action: Callable[[], T], reports: Reports | None = None) -> T:
        """Call `action` on the thread and return what it returns, or raise what it raises.

        Ctrl-C, and whatever a progress function raises, ends the wait, and the job at its next
        safe point.

        Raises:
            InvalidRequest: this is called from inside a job (by a finalizer, say).
            StoreBusy: this thread keeps writers out just now, and the job may have to write.
            StoreClosed: the store was closed meanwhile.
        """
        if self.is_inside():
            raise InvalidRequest("a job can't begin inside another job of the same store")
        if (store := self._store()) is not None:
            store.refuse_inside()
            del store
        if self._closed is not None:
            raise copied_error(self._closed)
        while True:
            task = Task(lambda: self._unless_lost(action))
            with contextlib.suppress(JobsLost):  # nothing has changed: once more, after the other
                result: T = self._result(task, reports)
                return result
            if self._closed is not None:
                raise copied_error(self._closed)

    def _result(self, task: Task, reports: Reports | None) -> Any:
        """Carry out a task, or have it carried out, and return what it returns."""
        if self._lock.is_mine() or (self._worker is not None and self._worker.is_current()):
            self._carry_out(task)
        else:
            self._hand_over(task, reports)
        if reports is not None:
            reports.deliver()
        try:
            return task.outcome()
        except JobStopped:
            if self._closed is None:
                raise
            raise copied_error(self._closed) from None

    def _hand_over(self, task: Task, reports: Reports | None) -> None:
        """Let the thread carry out a task, and wait until it has."""
        pause = LOOK_S if reports is None else PROGRESS_S
        try:
            self._tasks.append(task)
            while not task.done.wait(0):
                if not self._thread().wake():
                    self._carry_out_all()  # no thread is to be had
                task.done.wait(pause)
                if reports is not None:
                    reports.deliver()
        except BaseException:
            task.cancel()
            task.done.wait(GRACE_S)
            raise

    def is_inside(self) -> bool:
        """True if this thread is carrying out a job."""
        return self._lock.is_mine() and self._lock.is_busy

    def check(self) -> None:
        """Called by a job at a safe point.

        Raises:
            JobStopped: it should stop here.
        """
        task = self._current
        if self._hold is not None and self._hold.is_wanted():
            raise JobsLost("the store is starting over, and all its threads wait for that")
        if self.lease.has_gone():
            raise JobsLost("another process has taken over the jobs of the store")
        if self._closed is not None or (self.is_stopping if task is None else task.is_cancelled):
            raise JobStopped("the job was stopped")

    def _unless_lost(self, action: Callable[[], T]) -> T:
        """Call `action`; it lost the jobs if it fails because another process removed its files."""
        try:
            return action()
        except OSError as error:
            if self.lease.has_gone():
                raise JobsLost("another process has taken over the jobs of the store") from error
            raise

    def rest(self, seconds: float) -> None:
        """Let a job sleep; raise JobStopped as check() does."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            rest(min(left, REST_S))

    # -- the end

    def close(self, error: BaseException) -> None:
        """Stop at the next safe point, and return when the thread has ended.

        Waiting callers raise `error`.
        """
        self.is_stopping, self._closed = True, error
        if self._worker is not None:
            self._worker.stop()
        self.lease.stop()
        self._carry_out_all()  # leave no caller waiting

    def reopen(self) -> None:
        """Go on after a close() that was not the end after all."""
        self.is_stopping, self._closed = False, None

    def after_fork_in_child(self, error: BaseException) -> None:
        """Forget the thread and its waiting callers: they are in the parent process."""
        self.is_stopping, self._closed = True, error
        if self._worker is not None:
            self._worker.after_fork_in_child()
        self.lease.after_fork_in_child()
        self._tasks.clear()

    # -- on the thread

    def _thread(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(self._step)
        return self._worker

    def _step(self) -> float | None:
        self._carry_out_all()
        if self._closed is not None:
            self._thread().stop()  # woken before the end was visible
        if not self._is_watching or self.is_stopping:
            return None
        left = self._retry_at - time.monotonic()
        return left if left > 0 else self._background()

    def _carry_out_all(self) -> None:
        """Leave no task; what is interrupted before it begins stays, for the next step."""
        while self._tasks:
            with contextlib.suppress(IndexError, ValueError):  # another thread was quicker
                task = self._tasks[0]
                self._carry_out(task)
                self._tasks.remove(task)

    def _carry_out(self, task: Task) -> None:
        store = self._store()  # the last reference may be dropped when the job ends
        with self._lock.held(is_job=True):
            try:
                task.carry_out(self._begin, store)
            finally:
                self._current = None
                self._end()
        del store

    def _begin(self, task: Task | None, store: JobStore | None) -> None:
        """A job begins; None: background work.  What was interrupted is completed first."""
        self._current = task
        self.check()
        if store is not None:
            while not self.lease.claim(True):
                self.rest(POLL_S)
            self._hold = store.files.held()
            store.resume()  # with what it knew when it began
            store.in_step()

    def _end(self) -> None:
        """A job is over: another process may do the next one."""
        self._hold = None
        self.lease.end()

    def _background(self) -> float | None:
        store = self._store()
        if store is None:
            return None
        try:
            with self._lock.held(is_job=True):
                store.follow_files()
                if store.leaves_jobs_to_others() or not self.lease.claim():
                    return IDLE_S
                try:
                    self._begin(None, store)
                    self._unless_lost(lambda: self._work(store))
                finally:
                    self._end()
        except JobsLost:
            return IDLE_S  # the other one may be killed before it has done them
        except JobStopped:
            return None
        except BaseException as error:  # noqa: BLE001  # nothing may end the thread
            self.failures.note(error)
            self._retry_at = time.monotonic() + self.failures.pause_s()
            return self.failures.pause_s()
        self.failures.over()
        return IDLE_S
