"""diskcache: SQLite with small values inside and large ones as files.

Invariants: it is used as a store, so nothing is evicted (``eviction_policy="none"``, no size limit)
in either setting.  "os" is its default, WAL with ``synchronous=NORMAL``; "sync" is ``FULL``.

default: ``Cache(path)`` but for the eviction.
tuned:   ``sqlite_synchronous=0`` for "os", 64 GiB ``sqlite_mmap_size``, a cache of 65,536 pages
         (diskcache's tutorial, "Settings").
It lists keys from the first one only, so workloads that start at a given key leave it out.
It has no bulk load; a batch is a loop inside ``transact()``, as its tutorial advises.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engines.base import (
    FULL,
    PROCESSES,
    SEEK,
    Durability,
    Engine,
    Pair,
    peer_module,
)


class DiskCache(Engine):
    """A ``diskcache.Cache``."""

    name = "diskcache"
    package = "diskcache"
    abilities = (FULL | {PROCESSES}) - {SEEK}

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        more: dict[str, int] = {}
        if self.tuned:
            more = {"sqlite_mmap_size": 1 << 36, "sqlite_cache_size": 65_536}
        relaxed = 0 if self.tuned else 1
        self._cache: Any = peer_module("diskcache", "diskcache").Cache(
            str(path),
            eviction_policy="none",
            size_limit=1 << 50,
            cull_limit=0,
            sqlite_synchronous=relaxed if durability == "os" else 2,
            **more,
        )
        get = self.get = self._cache.get
        self.get_many = lambda keys: list(map(get, keys))
        self.put, self.delete = self._cache.set, self._cache.delete

    def load(self, pairs: list[Pair]) -> None:
        """A loop inside one transaction."""
        with self._cache.transact():
            put = self._cache.set
            for key, value in pairs:
                put(key, value)

    def items(self) -> Iterator[Pair]:
        """Its ordered keys, with a get for each value."""
        get = self._cache.get
        return ((key, get(key)) for key in self._cache.iterkeys())

    def close(self) -> None:
        """Close the connection."""
        self._cache.close()
