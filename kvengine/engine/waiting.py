"""Waiting until a store has changed.

Invariants:

* In the process that writes, who waits sleeps, and the writer wakes it; a writer for whom nobody
  waits does nothing but look at a number.
* In another process it sleeps on the control page (see bell.pxd), where the writer wakes it.  Who
  may not write to that page, or has no futex, looks at it now and then instead.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvengine.engine.control import PAGE_BYTES, Control
from kvengine.engine.names import CONTROL_NAME
from kvengine.errors import InvalidRequest, StorageError

if TYPE_CHECKING:
    from kvengine.engine.store import Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0002, 0.005  # between two looks at the control page
LONGEST_SLEEP_S = 0.5  # then it is looked whether the store was closed


class Waiting:
    """Those who wait for a store to change.

    Thread-safety: any number of threads may wait and wake.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._page: Control | None = None  # to sleep on; see _page_of
        self._has_looked = False

    def wait(self, store: Store, after: int, timeout: float | None) -> int:
        """Return the version of a store when it is above `after`, or at the latest after a time."""
        store.check_usable()
        if store.follower is not None:
            return _wait_for_writer(store, self._page_of(store), after, timeout)
        if store.options.read_only and timeout is None:
            raise InvalidRequest("this store can't change: it follows no writer")
        with self._condition:
            store.waiters += 1
            try:
                self._condition.wait_for(
                    lambda: store.is_refused or store.applied_version > after, timeout
                )
            finally:
                store.waiters -= 1
        return store.version

    def _page_of(self, store: Store) -> Control | None:
        """Return the control page, opened to be written to; None if this process may not."""
        if not self._has_looked:
            with contextlib.suppress(FileNotFoundError, StorageError):
                file = store.directory.open(CONTROL_NAME, writable=True, map_bytes=PAGE_BYTES)
                self._page = Control(file)
            self._has_looked = True
        return self._page

    def wake(self) -> None:
        """Let those who wait look again."""
        with self._condition:
            self._condition.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    @contextlib.contextmanager
    def listening(self, store: Store, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` after each change of a store, in the thread that made it."""
        with self._condition:
            store.waiters += 1
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._condition:
                store.waiters -= 1
                self._listeners.remove(listener)


def _wait_for_writer(store: Store, page: Control | None, after: int, timeout: float | None) -> int:
    """Return the version of a store that follows a writer in another process; see wait()."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_PAUSE_S
    while True:
        seen = page.version if page is not None else 0  # first: what comes then ends the sleep
        version = store.version
        rest = LONGEST_SLEEP_S
        if deadline is not None:
            rest = min(rest, deadline - time.monotonic())
        if version > after or rest <= 0:
            return version
        if page is None or not page.sleep(seen, rest):
            time.sleep(min(rest, pause))
            pause = min(pause * 1.5, LONGEST_PAUSE_S)
