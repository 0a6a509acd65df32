"""The workload of a world: keys of uneven popularity, at nodes of uneven size."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate


class Zipf:
    """Numbers n from 0 to count - 1, with probabilities proportional to 1 / (n + 1) ** skew.

    Args:
        count: how many numbers there are.
        skew: 0 is even; 1 is usual for the web.
        rng: decides.
    """

    def __init__(self, count: int, skew: float, rng: random.Random) -> None:
        self._sums = list(accumulate((n + 1) ** -skew for n in range(count)))
        self._total, self._rng = self._sums[-1], rng

    def draw(self) -> int:
        """Return the next number."""
        return bisect_left(self._sums, self._rng.random() * self._total)


def value_of(number: int, change: int, size: int) -> bytes:
    """Return a value of a size that says whose it is: checkers see a wrong one at once."""
    head = b"%d@%d;" % (number, change)
    return (head * (size // len(head) + 1))[:size]


def content_of(keys: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield what a primary holds at the beginning if nobody says what."""
    for number in range(keys):
        yield key_of(number), value_of(number, 0, value_bytes)


def key_of(number: int) -> bytes:
    """Return the key with a number."""
    return b"key-%d" % number
