"""Waiting until a store has changed, by a write of this process or any other.

Invariants:

* A waiter registers a listener, which is called after each change: by the writer, in its own
  thread, and for writes of other processes by one thread of this process, which sleeps on the futex
  of the control page (futex.pyx).  If no process waits, a write only checks two numbers.
* No change is missed.  A listener is registered before its waiter checks the version.  The thread
  calls all listeners whenever the page shows a version other than the last one it has noted, and
  notes the version after the calls: listeners added meanwhile are called again.  It starts with no
  noted version.
* The thread exists while there are listeners, and a moment longer.  It refers to the store weakly,
  receives no signals, and ends at once when the store is closed.
* Twice per second it lets the store check whether its folder still exists, so that waiters learn of
  that, too.
* An interruption while waiting or waking leaves no lock held.
* Without a futex, a writable control page or any page, the thread polls; if no thread can be
  started, the waiters do.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator

from kvengine.engine.following.changes import LONGEST_SLEEP_S, Changes
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.jobs.worker import Worker
from kvengine.engine.log.control import PAGE_BYTES
from kvengine.engine.log.futex import HAS_FUTEX, SLEEP_MAX_S, Futex
from kvengine.engine.log.names import CONTROL_NAME
from kvengine.engine.store_files import StoreFiles
from kvengine.errors import InvalidRequest, KvError, StorageError
from kvengine.file.memory import MemoryDirectory
from kvengine.options import VERSION_LIMIT

LOOK_S = 0.005  # between two checks where no futex wakes
LINGER_S = 1.0  # the thread stays so long for the next listener


class Waiting:
    """Threads that wait for a store to change.

    Thread-safety: any number of threads may wait and wake.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self.renew()

    def renew(self) -> None:
        """Start over: in a child process no thread waits."""
        if self._worker is not None:
            self._worker.after_fork_in_child()
        self._worker = None
        self._lock = OwnedLock()  # of the listeners, their count at the store, and the thread
        self._listeners: list[Callable[[], None]] = []
        self._store: Callable[[], StoreFiles | None] = lambda: None
        self._futex: Futex | None = None
        self._notified = -1  # the last version that listeners were called for
        self._left_at: float | None = None  # when the last listener was seen to have gone
        self._is_over = False  # the store is closed

    def wait(self, store: StoreFiles, after: int, timeout: float | None) -> int:
        """Return the version of a store when it is above `after`, or at the latest after a time."""
        version = store.version
        if version > after or timeout == 0:
            return version
        if store.is_frozen and timeout is None:
            raise InvalidRequest("a snapshot never changes: pass a timeout")
        changes = Changes()
        with self.listening(store, changes.notify) as look_s:
            changes.wait_for(lambda: store.version > after, timeout, look_s)
        return store.version

    def wake(self) -> None:
        """Make waiting threads check again: this process wrote, or the store was closed."""
        shown = self._notified if self._futex is None else self._futex.page.version
        for listener in list(self._listeners):
            listener()
        self._notified = shown
        store = self._store()
        if self._worker is not None and (store is None or store.is_settled):
            self._end(self._worker)

    @contextlib.contextmanager
    def listening(self, store: StoreFiles, listener: Callable[[], None]) -> Iterator[float]:
        """Call `listener` after each change of a store, in the thread that made or noticed it.

        It may be called without one.  The result is after how many seconds, at the latest, one
        should look at the store without being called.
        """
        try:
            with self._lock.held():
                self._listeners.append(listener)
                store.waiters = len(self._listeners)
                look_s = self._watch_page(store)
            yield look_s
        finally:
            with self._lock.held():
                with contextlib.suppress(ValueError):  # a child process has forgotten it
                    self._listeners.remove(listener)
                store.waiters = len(self._listeners)

    # -- what other processes write

    def _watch_page(self, store: StoreFiles) -> float:
        """Let the thread listen for what other processes write, if any may."""
        keeps_out = store.options.exclusive or isinstance(store.directory, MemoryDirectory)
        is_alone = keeps_out and not store.options.read_only
        if store.is_frozen or is_alone or self._is_over:
            return LONGEST_SLEEP_S
        if self._worker is None:
            self._store = weakref.ref(store)
            self._worker = Worker(self._step)
        return LONGEST_SLEEP_S if self._worker.wake() else LOOK_S

    def _end(self, worker: Worker) -> None:
        self._is_over = True
        if self._futex is not None:
            self._futex.stop()
        worker.stop()

    def _step(self) -> float | None:
        """On the thread: sleep until another process has written, then notify."""
        store, pause = self._store(), 0.0
        if store is None or self._is_over or self._is_left():
            if self._worker is not None:
                self._worker.stop()
            return None
        if not self._listeners:
            return LINGER_S
        futex = self._futex_of(store)
        if futex is None:
            shown, pause = self._look(store), LOOK_S
        else:
            del store  # it may go away while this thread sleeps
            shown = futex.page.version
            if shown == self._notified and not self._is_over:
                futex.sleep(futex.prepare(), shown, SLEEP_MAX_S)
                shown = futex.page.version
            if shown == self._notified:
                shown = self._look(self._store())
        if shown != self._notified:
            self._notify()
            self._notified = shown
        return pause

    def _is_left(self) -> bool:
        """True if there was no listener for a while."""
        now = time.monotonic()
        if self._listeners:
            self._left_at = None
        elif self._left_at is None:
            self._left_at = now
        return self._left_at is not None and now - self._left_at >= LINGER_S

    def _look(self, store: StoreFiles | None) -> int:
        """Let a store look whether all is well, and return its version.

        On an error, listeners are called: their own reads raise it.
        """
        with contextlib.suppress(KvError, OSError):
            return self._notified if store is None else store.version
        self._notify()
        return self._notified

    def _notify(self) -> None:
        for listener in list(self._listeners):
            with contextlib.suppress(Exception):  # the other listeners must be called
                listener()

    def _futex_of(self, store: StoreFiles) -> Futex | None:
        """Return the futex of a store's control page; None: it has no page yet."""
        page = store.control_page
        if page is not None and (self._futex is None or self._futex.page is not page):
            file = None
            if HAS_FUTEX:
                with contextlib.suppress(StorageError, FileNotFoundError):
                    file = store.directory.open(CONTROL_NAME, writable=True, map_bytes=PAGE_BYTES)
                    file.close_descriptor()  # the mapping is enough
            self._futex = Futex(page, file)
        return self._futex


def check_timeout(timeout: object) -> None:
    """Refuse what is not a number of seconds."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidRequest(f"timeout must be a number of seconds or None, not {timeout!r}")


def check_version(name: str, value: object) -> None:
    """Refuse an invalid version."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < VERSION_LIMIT:
        raise InvalidRequest(f"{name} must be a version, an int of at least 0, not {value!r}")
