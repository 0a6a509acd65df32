"""kvengine itself, through its public interface and with its default options.

Invariants: no setting but the durability is given, so the figures are those of a user who reads
nothing.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.engines.base import (
    FULL,
    PROCESSES,
    THREADS,
    Durability,
    Engine,
    Pair,
    peer_module,
    wait_until_quiet,
)


class Kvengine(Engine):
    """A ``kvengine.Store``."""

    name = "kvengine"
    package = "kvengine"
    settings = ("default",)
    abilities = FULL | {THREADS, PROCESSES}

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        kvengine = peer_module("kvengine", "kvengine")
        if read_only:
            self._store = kvengine.Store(str(path), read_only=True)
        else:
            self._store = kvengine.Store(str(path), durability=durability)
        self.get, self.get_many = self._store.get, self._store.get_many
        self.put, self.delete = self._store.put, self._store.delete

    @classmethod
    def version(cls) -> str:
        """``kvengine.__version__``, because a checkout need not be installed."""
        module = peer_module("kvengine", "kvengine")
        return str(getattr(module, "__version__", "unknown"))

    def load(self, pairs: list[Pair]) -> None:
        """One batch."""
        with self._store.batch() as batch:
            put = batch.put
            for key, value in pairs:
                put(key, value)

    def items(self) -> Iterator[Pair]:
        """``scan()``: entries, which carry more than a pair."""
        scan: Iterator[Pair] = self._store.scan()
        return scan

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """``keys(prefix)``."""
        return iter(self._store.keys(prefix))

    def range(self, start: bytes, limit: int) -> list[Pair]:
        """``scan(start_after=..., limit=...)``: the successors of the key, without itself."""
        return list(self._store.scan(start_after=start, limit=limit))

    def settle(self) -> None:
        """Wait for compaction."""
        wait_until_quiet(self.path)

    def figures(self) -> dict[str, float]:
        """From ``stats()``."""
        stats = self._store.stats()
        return {
            "space_amplification": stats.space_amplification,
            "index_bytes": stats.index_bytes,
            "live_bytes": stats.live_bytes,
            "log_bytes": stats.log_bytes,
            "segments": stats.segments,
        }

    def close(self) -> None:
        """Close the store."""
        self._store.close()
