"""Floors: which versions an edge must not go below, whatever its upstream says.

A floor is kept for a group of keys, those with the same checksum modulo the number of groups, so
memory is bounded; keys that share a group only make some answers be asked for again.

A write whose version is not known puts its keys in doubt: their floor is the version that the
primary has when it is asked after that.

Invariants:

* The floor of a key is at least the version of each value of it that was shown or heard of.
* A floor never goes down.
* A doubt ends only with a version that was asked for after it began.
"""

from __future__ import annotations

from array import array
from zlib import crc32

GROUPS = 1 << 14
EVERY = -1  # the group of all keys


class Floors:
    """Versions below which an edge does not go.

    Args:
        groups: how many floors there are, eight bytes each; a power of two.

    Thread-safety: under the lock of the edge.
    """

    def __init__(self, groups: int = GROUPS) -> None:
        if groups < 1 or groups & (groups - 1):
            raise ValueError(f"the number of floors is a power of two, not {groups}")
        self._mask = groups - 1
        self._floors = array("Q", bytes(8 * groups))
        self._doubts: dict[int, int] = {}  # the number of the newest one, by group
        self.doubt_count = 0  # how many there have been
        self.of_all = 0  # of every key

    def of(self, key: bytes) -> int:
        """Return the version that an answer about a key must be true of, at least."""
        return max(self._floors[crc32(key) & self._mask], self.of_all)

    def lift(self, key: bytes, version: int) -> None:
        """A value of this version was shown, or the key changed at it."""
        group = crc32(key) & self._mask
        self._floors[group] = max(self._floors[group], version)

    def lift_all(self, version: int) -> None:
        """Any key may have changed at this version."""
        self.of_all = max(self.of_all, version)

    def doubt(self, key: bytes | None) -> None:
        """A key (None: any) may have changed, and it is not known at which version."""
        self.doubt_count += 1
        self._doubts[EVERY if key is None else crc32(key) & self._mask] = self.doubt_count

    def in_doubt(self, key: bytes | None) -> bool:
        """Return whether the floor of a key (None: of all keys) is not known now."""
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
                    self.lift_all(version)
                else:
                    self._floors[group] = max(self._floors[group], version)
                del self._doubts[group]

    def memory_usage(self) -> int:
        """Return how many bytes the floors take."""
        return self._floors.itemsize * len(self._floors)
