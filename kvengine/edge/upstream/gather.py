"""Gather: waits for several results, which may come from several threads.

Invariants:

* `done` is called once, after the last result has arrived, with all of them in order.
* A result that arrives twice, because its sender was interrupted, counts once.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

from kvengine.edge.messages import Done

MISSING = object()


class Gather:
    """Waits for a number of results.

    >>> results = []
    >>> gather = Gather(2, results.append)
    >>> gather.callback(1)("b")
    >>> gather.callback(0)("a")
    >>> results
    [['a', 'b']]

    Args:
        count: the number of results; at least one.
        done: called with the list of results.

    Thread-safety: any thread may call any of the callbacks.
    """

    def __init__(self, count: int, done: Done) -> None:
        self._results: list[Any] = [MISSING] * count
        self._left, self._done = count, done
        self._lock = threading.RLock()

    def callback(self, number: int) -> Done:
        """Return the function to call with result `number`, counted from 0."""
        return functools.partial(self._arrived, number)

    def _arrived(self, number: int, result: Any) -> None:
        with self._lock:
            is_new = self._results[number] is MISSING
            self._results[number] = result
            self._left -= is_new
            is_last = is_new and self._left == 0
        if is_last:
            self._done(self._results)
