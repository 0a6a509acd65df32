"""RocksDB through rocksdict.

Invariants: "os" is RocksDB's default (the log is written to the kernel, not synced); "sync" sets
``WriteOptions.sync``.

default: ``Rdict(path)``, where each key and value carries a byte for its Python type.
tuned:   ``Options(raw_mode=True)``, 1 GiB block cache, bloom filter of 10 bits, hash index in data
         blocks, filters and indexes pinned, two background jobs, an upper bound on prefix listings
         (RocksDB wiki: "Setup Options and Basic Tuning", "RocksDB Bloom Filter",
         "Data Block Hash Index", "Iterator"; rocksdict README, "raw_mode").
Reads of many keys use a list as the key, which rocksdict passes to RocksDB's MultiGet.
"""

import time
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from benchmarks.engines.base import (
    FULL,
    THREADS,
    Durability,
    Engine,
    Pair,
    after_prefix,
    peer_module,
)


class RocksDict(Engine):
    """A RocksDB database."""

    name = "rocksdict"
    package = "rocksdict"
    abilities = FULL | {THREADS}

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        self._module = peer_module("rocksdict", "rocksdict")
        options = _tuned_options(self._module) if self.tuned else None
        self._store: Any = self._module.Rdict(str(path), options)
        if durability != "os":
            write = self._module.WriteOptions()
            write.sync = True
            self._store.set_write_options(write)
        self.get = self.get_many = self._store.get
        self.put, self.delete = self._store.put, self._store.delete

    def load(self, pairs: list[Pair]) -> None:
        """One ``WriteBatch``."""
        batch = self._module.WriteBatch(raw_mode=self.tuned)
        put = batch.put
        for key, value in pairs:
            put(key, value)
        self._store.write(batch)

    def items(self) -> Iterator[Pair]:
        """An iterator over everything."""
        items: Iterator[Pair] = self._store.items()
        return items

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """An iterator of keys; tuned: with an upper bound in place of a test for each key."""
        if not self.tuned:
            found = self._store.keys(from_key=prefix)
            return takewhile(after_prefix(prefix).__gt__, found)
        read = self._module.ReadOptions()
        read.set_iterate_upper_bound(after_prefix(prefix))
        bounded: Iterator[bytes] = self._store.keys(from_key=prefix, read_opt=read)
        return bounded

    def range(self, start: bytes, limit: int) -> list[Pair]:
        """An iterator from ``start`` on."""
        return list(islice(self._store.items(from_key=start), limit))

    def settle(self) -> None:
        """Write the memory table out, then wait until no compaction is due or running."""
        self._store.flush(True)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._is_busy():
            time.sleep(0.05)

    def _is_busy(self) -> bool:
        names = ("compaction-pending", "num-running-compactions", "num-running-flushes")
        return any(self._store.property_int_value(f"rocksdb.{name}") for name in names)

    def close(self) -> None:
        """Close the database."""
        self._store.close()


def _tuned_options(module: Any) -> Any:
    options = module.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_background_jobs(2)
    table = module.BlockBasedOptions()
    table.set_block_cache(module.Cache(1 << 30))
    table.set_bloom_filter(10, False)
    table.set_data_block_index_type(module.DataBlockIndexType.binary_and_hash())
    table.set_data_block_hash_ratio(0.75)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    return options
