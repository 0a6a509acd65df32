"""Waiting for a change, in threads and in greenlets of gevent.

Invariants:

* An interruption while waiting or notifying leaves no lock held.  threading.Condition and
  threading.Event do not guarantee that: Python code takes and releases their lock.
* No lock is held during notifications, so a signal handler or a finalizer may notify anywhere.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

LONGEST_SLEEP_S = 60.0  # without a limit, gevent raises if only threads may wake it
DEAF_SLEEP_S = 0.005  # a greenlet of eventlet is not woken by another thread


class Changes:
    """Threads that wait for a change.

    Thread-safety: any number of threads may wait and notify.
    """

    def __init__(self) -> None:
        self._asleep: list[threading.Lock] = []

    def notify(self) -> None:
        """Make the waiting threads check again."""
        for one in list(self._asleep):
            with contextlib.suppress(RuntimeError):  # it is awake already
                one.release()

    def wait_for(
        self,
        is_over: Callable[[], bool],
        timeout: float | None = None,
        look_s: float = LONGEST_SLEEP_S,
    ) -> bool:
        """Return True when `is_over` says so, False after some seconds.

        It is asked when others notify, and every `look_s` seconds at the latest.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        one = threading.Lock()  # gevent replaces it, so that other greenlets run meanwhile
        if type(one).__module__.startswith("eventlet."):
            look_s = min(look_s, DEAF_SLEEP_S)
        one.acquire()
        try:
            self._asleep.append(one)  # first, so that no later change is missed
            while not is_over():
                rest = look_s if deadline is None else deadline - time.monotonic()
                if rest <= 0:
                    return False
                one.acquire(timeout=min(rest, look_s))
            return True
        finally:
            with contextlib.suppress(ValueError):
                self._asleep.remove(one)


class Flag:
    """What threading.Event is, on Changes.

    Thread-safety: any number of threads may wait and set.
    """

    def __init__(self) -> None:
        self._is_set, self._changes = False, Changes()

    def is_set(self) -> bool:
        """True after set()."""
        return self._is_set

    def set(self) -> None:
        """Release the waiting threads."""
        self._is_set = True
        self._changes.notify()

    def clear(self) -> None:
        """Make later calls wait."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Return True when it is set, False after some seconds."""
        return self._changes.wait_for(self.is_set, timeout)
