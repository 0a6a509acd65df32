"""Gathering: several results, which may come from several threads, told as one.

Invariants:

* `done` is called once, when the last result has come, with all of them in their order.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

from kvengine.tier.board import Done


class Gathering:
    """Waits for so many results.

    >>> told = []
    >>> gathering = Gathering(2, told.append)
    >>> gathering.place(1)("b")
    >>> gathering.place(0)("a")
    >>> told
    [['a', 'b']]

    Args:
        count: how many there will be; at least one.
        done: called with the list of them.

    Thread-safety: each place is filled once, by any thread.
    """

    def __init__(self, count: int, done: Done) -> None:
        self._results: list[Any] = [None] * count
        self._left, self._done = count, done
        self._lock = threading.Lock()

    def place(self, number: int) -> Done:
        """Return what is to be called with the result of this number, from 0."""
        return functools.partial(self._arrived, number)

    def _arrived(self, number: int, result: Any) -> None:
        self._results[number] = result
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._done(self._results)
