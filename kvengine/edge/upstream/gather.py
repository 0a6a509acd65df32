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
    """Waits for so many results.

    >>> results = []
    >>> gather = Gather(2, results.append)
    >>> gather.place(1)("b")
    >>> gather.place(0)("a")
    >>> results
    [['a', 'b']]

    Args:
        count: how many there will be; at least one.
        done: called with the list of them.

    Thread-safety: each place is filled once, by any thread.
    """

    def __init__(self, count: int, done: Done) -> None:
        self._results: list[Any] = [MISSING] * count
        self._left, self._done = count, done
        self._lock = threading.RLock()

    def place(self, number: int) -> Done:
        """Return what is to be called with the result of this number, from 0."""
        return functools.partial(self._arrived, number)

    def _arrived(self, number: int, result: Any) -> None:
        with self._lock:
            is_new = self._results[number] is MISSING
            self._results[number] = result
            self._left -= is_new
            is_last = is_new and self._left == 0
        if is_last:
            self._done(self._results)
