"""Floors: which versions a location must not go below, whatever its upstream says.

A floor is kept for a group of keys, those with the same checksum modulo the number of groups, so
memory is bounded; keys that share a group only make some answers be asked for again.

Invariants:

* The floor of a key is at least the version of each value of it that was shown or heard of.
* A floor never goes down.
"""

from __future__ import annotations

from array import array
from zlib import crc32

GROUPS = 1 << 14


class Floors:
    """Versions below which a location does not go.

    Args:
        groups: how many floors there are, eight bytes each; a power of two.

    Thread-safety: under the lock of the location.
    """

    def __init__(self, groups: int = GROUPS) -> None:
        if groups < 1 or groups & (groups - 1):
            raise ValueError(f"the number of floors is a power of two, not {groups}")
        self._mask = groups - 1
        self._floors = array("Q", bytes(8 * groups))

    def of(self, key: bytes) -> int:
        """Return the version that an answer about a key must be true of, at least."""
        return self._floors[crc32(key) & self._mask]

    def lift(self, key: bytes, version: int) -> None:
        """A value of this version was shown, or the key changed at it."""
        group = crc32(key) & self._mask
        self._floors[group] = max(self._floors[group], version)

    def memory_usage(self) -> int:
        """Return how many bytes the floors take."""
        return self._floors.itemsize * len(self._floors)
