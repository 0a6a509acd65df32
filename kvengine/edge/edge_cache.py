"""EdgeCache: the copies of an edge, in memory and, if it has a folder, on disk.

Invariants:

* Absent keys have a small part of the memory to themselves, so requests for keys that do not exist
  evict no values.
* A copy that is dropped is dropped in memory and on disk.
"""

from __future__ import annotations

from typing import Any

from kvengine.cache.memory import Cache
from kvengine.edge.disk import DiskCache
from kvengine.edge.lookup import CacheEntry
from kvengine.edge.settings import Settings

ABSENT_SHARE = 20  # 1/20 of the memory is for absent keys
LARGEST_SHARE = 16  # a value larger than 1/16 of the memory is not cached in it


class EdgeCache:
    """The copies of an edge.

    Thread-safety: any thread may read; changes need the lock of the edge.
    """

    def __init__(
        self, settings: Settings, disk: DiskCache | None = None, seed: int | None = None
    ) -> None:
        memory = settings.memory_bytes
        self._largest = memory // LARGEST_SHARE
        self.values: Any = Cache(memory_bytes=memory - memory // ABSENT_SHARE, seed=seed)
        self.absent: Any = Cache(memory_bytes=memory // ABSENT_SHARE, seed=seed)
        self._caches_absent = settings.negative_ttl_s > 0
        self.disk = disk
        self.change_count = 0  # counts changes

    def peek(self, key: bytes) -> CacheEntry | None:
        """Return the copy of a key, without counting it as a use."""
        cached: CacheEntry | None = self.values.peek(key)
        if cached is None and self._caches_absent:
            cached = self.absent.peek(key)
        return self.disk.get(key) if cached is None and self.disk is not None else cached

    def promote(self, key: bytes, cached: CacheEntry) -> None:
        """Cache a copy that was found on disk in memory too."""
        size = len(key) + cached.size
        if size <= self._largest:
            self.values.set(key, cached, size)

    def keep(self, key: bytes, cached: CacheEntry) -> None:
        """Cache a copy, replacing the previous one."""
        self.change_count += 1
        size = len(key) + cached.size
        if cached.version == 0:
            self.drop(key)
            self.absent.set(key, cached, size)
            return
        if self._caches_absent:
            self.absent.delete(key)
        if size <= self._largest:
            self.values.set(key, cached, size)
        else:
            self.values.delete(key)
        if self.disk is not None:
            self.disk.keep(key, cached)

    def drop(self, key: bytes) -> None:
        """Drop the copy of a key."""
        self.change_count += 1
        self.values.delete(key)
        if self._caches_absent:
            self.absent.delete(key)
        if self.disk is not None:
            self.disk.drop(key)

    def memory_usage(self) -> int:
        """Return the bytes of memory that the copies use."""
        return int(self.values.memory_usage() + self.absent.memory_usage())
