"""Watermarks: the versions below which an edge must not go, whatever its upstream answers.

A minimum version is kept for each group of keys, those with the same checksum modulo the number of
groups, so memory is bounded.  Keys that share a group only cause some extra requests.

A write whose version is not known puts its keys in doubt: their minimum version becomes the version
that the primary reports when it is asked after that.

Invariants:

* The minimum version of a key is at least the version of each of its values that was shown or
  learned of.
* A minimum version never decreases.
* A doubt ends only with a version that was requested after it began.
"""

from __future__ import annotations

from array import array
from zlib import crc32

GROUPS = 1 << 14
EVERY = -1  # the group of all keys


class Watermarks:
    """Versions below which an edge does not go.

    Args:
        groups: how many watermarks there are, eight bytes each; a power of two.

    Thread-safety: under the lock of the edge.
    """

    def __init__(self, groups: int = GROUPS) -> None:
        if groups < 1 or groups & (groups - 1):
            raise ValueError(f"the number of watermarks must be a power of two, not {groups}")
        self._mask = groups - 1
        self._watermarks = array("Q", bytes(8 * groups))
        self._doubts: dict[int, int] = {}  # the number of the newest one, by group
        self.doubt_count = 0  # how many there have been
        self.of_all = 0  # of every key

    def of(self, key: bytes) -> int:
        """Return the version that an answer about a key must be true of, at least."""
        return max(self._watermarks[crc32(key) & self._mask], self.of_all)

    def advance(self, key: bytes, version: int) -> None:
        """A value of this version was shown, or the key changed at it."""
        group = crc32(key) & self._mask
        self._watermarks[group] = max(self._watermarks[group], version)

    def advance_all(self, version: int) -> None:
        """Any key may have changed at this version."""
        self.of_all = max(self.of_all, version)

    def mark_uncertain(self, key: bytes | None) -> None:
        """A key (None: any) may have changed, and it is not known at which version."""
        self.doubt_count += 1
        self._doubts[EVERY if key is None else crc32(key) & self._mask] = self.doubt_count

    def in_doubt(self, key: bytes | None) -> bool:
        """Return whether the minimum version of a key (None: of all keys) is not known now."""
        if not self._doubts:
            return False
        return EVERY in self._doubts or (
            key is not None and crc32(key) & self._mask in self._doubts
        )

    @property
    def has_doubts(self) -> bool:
        """True if the version of the primary is wanted."""
        return bool(self._doubts)

    def settle(self, version: int, count: int) -> None:
        """The primary was at a version, or behind it, when there had been so many doubts."""
        for group, number in list(self._doubts.items()):
            if number <= count:
                if group == EVERY:
                    self.advance_all(version)
                else:
                    self._watermarks[group] = max(self._watermarks[group], version)
                del self._doubts[group]

    def memory_usage(self) -> int:
        """Return how many bytes the watermarks take."""
        return self._watermarks.itemsize * len(self._watermarks)
