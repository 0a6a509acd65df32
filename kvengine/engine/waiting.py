"""Waiting until a store has changed.

Invariants:

* In the process that writes, who waits sleeps, and the writer wakes it; a writer for whom nobody
  waits does nothing but look at a number.
* In another process nobody wakes the waiter yet, so it looks at the control page now and then.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvengine.errors import InvalidRequest

if TYPE_CHECKING:
    from kvengine.engine.store import Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0002, 0.005  # between two looks at the control page


class Waiting:
    """Those who wait for a store to change.

    Thread-safety: any number of threads may wait and wake.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._listeners: list[Callable[[], None]] = []

    def wait(self, store: Store, after: int, timeout: float | None) -> int:
        """Return the version of a store when it is above `after`, or at the latest after a time."""
        store.check_usable()
        if store.follower is not None:
            return _poll(store, after, timeout)
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


def _poll(store: Store, after: int, timeout: float | None) -> int:
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_PAUSE_S
    while True:
        version = store.version
        rest = pause if deadline is None else min(pause, deadline - time.monotonic())
        if version > after or rest <= 0:
            return version
        time.sleep(rest)
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
