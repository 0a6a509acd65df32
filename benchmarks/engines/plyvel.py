"""LevelDB through plyvel.

Invariants: "os" is LevelDB's default (a write is handed to the kernel); "sync" is ``sync=True``.

default: ``plyvel.DB(path, create_if_missing=True)``.
tuned:   ``bloom_filter_bits=10``, a 1 GiB block cache and a 64 MiB write buffer (plyvel's
         documentation, "DB.__init__"; LevelDB's doc/index.md, "Cache", "Filters").
         A full compaction after the load, so that reads meet one level.
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.engines.base import (
    FULL,
    THREADS,
    Durability,
    Engine,
    Pair,
    peer_module,
    wait_until_quiet,
)


class Plyvel(Engine):
    """A LevelDB database."""

    name = "plyvel"
    package = "plyvel"
    abilities = FULL | {THREADS}

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        more: dict[str, int] = {}
        if self.tuned:
            more = {
                "bloom_filter_bits": 10,
                "lru_cache_size": 1 << 30,
                "write_buffer_size": 64 << 20,
            }
        plyvel = peer_module("plyvel", "plyvel")
        self._store: Any = plyvel.DB(str(path), create_if_missing=True, **more)
        get = self.get = self._store.get
        self.get_many = lambda keys: list(map(get, keys))
        if durability == "os":
            self.put, self.delete = self._store.put, self._store.delete
        else:
            self.put = partial(self._store.put, sync=True)
            self.delete = partial(self._store.delete, sync=True)
        self._unsettled = False

    def load(self, pairs: list[Pair]) -> None:
        """One ``WriteBatch``."""
        self._unsettled = True
        with self._store.write_batch() as batch:
            put = batch.put
            for key, value in pairs:
                put(key, value)

    def items(self) -> Iterator[Pair]:
        """An iterator over everything."""
        items: Iterator[Pair] = self._store.iterator()
        return items

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """An iterator without values."""
        keys: Iterator[bytes] = self._store.iterator(prefix=prefix, include_value=False)
        return keys

    def range(self, start: bytes, limit: int) -> list[Pair]:
        """An iterator from ``start`` on."""
        with self._store.iterator(start=start) as iterator:
            return list(islice(iterator, limit))

    def settle(self) -> None:
        """Wait for compaction; tuned: compact everything once after a load."""
        if self.tuned and self._unsettled:
            self._store.compact_range()
            self._unsettled = False
        wait_until_quiet(self.path)

    def close(self) -> None:
        """Close the database."""
        self._store.close()
