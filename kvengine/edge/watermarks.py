"""Watermarks: the minimum versions that an edge may show, whatever its upstream answers.

A minimum version is kept for each group of keys, those with the same checksum modulo the number of
groups, so memory is bounded.  Keys that share a group only cause some extra requests.

A write whose version is not known makes the minimum versions of its keys uncertain, until the
primary reports its version in answer to a request that was sent after the write.

Invariants:

* The minimum version of a key is at least the version of each of its values that was shown or
  learned of.
* A minimum version never decreases.
* Uncertainty ends only with a version that was requested after it began.
"""

from __future__ import annotations

from array import array
from zlib import crc32

GROUPS = 1 << 14
ALL_KEYS = -1  # the group of all keys


class Watermarks:
    """The minimum versions of all keys.

    Args:
        groups: the number of watermarks, of eight bytes each; a power of two.

    Thread-safety: under the lock of the edge.
    """

    def __init__(self, groups: int = GROUPS) -> None:
        if groups < 1 or groups & (groups - 1):
            raise ValueError(f"the number of watermarks must be a power of two, not {groups}")
        self._mask = groups - 1
        self._watermarks = array("Q", bytes(8 * groups))
        self._uncertain: dict[int, int] = {}  # group -> value of uncertain_count when it was marked
        self.uncertain_count = 0  # calls of mark_uncertain() so far
        self.of_all = 0  # of every key

    def of(self, key: bytes) -> int:
        """Return the minimum version of a key."""
        return max(self._watermarks[crc32(key) & self._mask], self.of_all)

    def advance(self, key: bytes, version: int) -> None:
        """Raise the minimum version of a key: a value of this version was shown or announced."""
        group = crc32(key) & self._mask
        self._watermarks[group] = max(self._watermarks[group], version)

    def advance_all(self, version: int) -> None:
        """Raise the minimum version of all keys."""
        self.of_all = max(self.of_all, version)

    def mark_uncertain(self, key: bytes | None) -> None:
        """Record that a key (None: any key) may have changed at an unknown version."""
        self.uncertain_count += 1
        self._uncertain[ALL_KEYS if key is None else crc32(key) & self._mask] = self.uncertain_count

    def is_uncertain(self, key: bytes | None) -> bool:
        """Return whether the minimum version of a key (None: of all keys) is unknown."""
        if not self._uncertain:
            return False
        return ALL_KEYS in self._uncertain or (
            key is not None and crc32(key) & self._mask in self._uncertain
        )

    @property
    def has_uncertain(self) -> bool:
        """True if the minimum version of any key is unknown."""
        return bool(self._uncertain)

    def resolve(self, version: int, count: int) -> None:
        """Set the minimum version of the keys marked as uncertain before `count` was exceeded."""
        for group, number in list(self._uncertain.items()):
            if number <= count:
                if group == ALL_KEYS:
                    self.advance_all(version)
                else:
                    self._watermarks[group] = max(self._watermarks[group], version)
                del self._uncertain[group]

    def memory_usage(self) -> int:
        """Return the bytes of memory that the watermarks use."""
        return self._watermarks.itemsize * len(self._watermarks)
