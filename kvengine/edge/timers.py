"""Timers: functions that are called later, by one thread.

The simulated world has its own, under virtual time.

Invariants:

* later() takes no lock: a signal handler or a finalizer may call it wherever it interrupts another.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from sortedcontainers import SortedList

Timer = tuple[float, int, Callable[[], None]]
logger = logging.getLogger("kvengine")


class Timers:
    """Calls functions after some seconds, one at a time.

    Thread-safety: threads may share it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._new: SimpleQueue[Timer | None] = SimpleQueue()
        self._order = itertools.count()
        self._closed = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call a function after some seconds, unless closed before."""
        if not self._closed:
            self._new.put((time.monotonic() + delay_s, next(self._order), call))

    def close(self) -> None:
        """Stop; return when the last call has ended."""
        self._closed = True
        self._new.put(None)
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        due = SortedList()  # of Timer, the next one first
        while not self._closed:
            wait = due[0][0] - time.monotonic() if due else None
            if wait is None or wait > 0:
                try:
                    timer = self._new.get(timeout=wait)
                except Empty:
                    continue
                if timer is not None:
                    due.add(timer)
                continue
            try:
                due.pop(0)[2]()
            except Exception:
                logger.exception("a timer callback of %s failed", self._name)
