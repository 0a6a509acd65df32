"""EdgeCache: the copies of an edge, in memory and, if it has a folder, on disk.

Invariants:

* Absent keys have a small share of the memory of their own, so requests for keys that do not exist
  evict no value.
* What is dropped is dropped in memory and on disk.
"""

from __future__ import annotations

from typing import Any

from kvengine.cache.memory import Cache
from kvengine.edge.disk import DiskCache
from kvengine.edge.lookup import CacheEntry
from kvengine.edge.settings import Settings

ABSENT_SHARE = 20  # one part in so many of the memory is for keys that are absent
LARGEST_SHARE = 16  # a value larger than one part in so many is not held in memory


class EdgeCache:
    """What an edge holds.

    Thread-safety: threads may get; they change it under the lock of the edge.
    """

    def __init__(
        self, settings: Settings, disk: DiskCache | None = None, seed: int | None = None
    ) -> None:
        memory = settings.memory_bytes
        self._largest = memory // LARGEST_SHARE
        self.values: Any = Cache(memory_bytes=memory - memory // ABSENT_SHARE, seed=seed)
        self.absent: Any = Cache(memory_bytes=memory // ABSENT_SHARE, seed=seed)
        self._knows_absent = settings.negative_ttl_s > 0
        self.disk = disk
        self.moves = 0  # counts changes

    def peek(self, key: bytes) -> CacheEntry | None:
        """Return what is held of a key, without making it more popular."""
        held: CacheEntry | None = self.values.peek(key)
        if held is None and self._knows_absent:
            held = self.absent.peek(key)
        return self.disk.get(key) if held is None and self.disk is not None else held

    def promote(self, key: bytes, held: CacheEntry) -> None:
        """Hold a copy in memory too, which was found on disk."""
        size = len(key) + held.size
        if size <= self._largest:
            self.values.set(key, held, size)

    def keep(self, key: bytes, held: CacheEntry) -> None:
        """Hold a copy instead of what was held before."""
        self.moves += 1
        size = len(key) + held.size
        if held.version == 0:
            self.drop(key)
            self.absent.set(key, held, size)
            return
        if self._knows_absent:
            self.absent.delete(key)
        if size <= self._largest:
            self.values.set(key, held, size)
        else:
            self.values.delete(key)
        if self.disk is not None:
            self.disk.keep(key, held)

    def drop(self, key: bytes) -> None:
        """Hold nothing of a key."""
        self.moves += 1
        self.values.delete(key)
        if self._knows_absent:
            self.absent.delete(key)
        if self.disk is not None:
            self.disk.drop(key)

    def memory_usage(self) -> int:
        """Return how many bytes of memory the copies take."""
        return int(self.values.memory_usage() + self.absent.memory_usage())
