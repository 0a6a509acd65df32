"""SQLite through the standard library.

Invariants: always WAL.  "os" is ``synchronous=NORMAL`` (default) or ``OFF`` (tuned): neither syncs
on commit, both keep a commit when the process is killed.  "sync" is ``FULL``.

default: a table with a rowid and a unique index on the key.
tuned:   ``WITHOUT ROWID`` (sqlite.org/withoutrowid.html), ``mmap_size`` (sqlite.org/mmap.html), a
         256 MB cache, ``synchronous=OFF`` for "os" (sqlite.org/pragma.html).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.engines.base import (
    FULL,
    PROCESSES,
    Durability,
    Engine,
    Pair,
    after_prefix,
)

_CREATE = "CREATE TABLE IF NOT EXISTS pairs (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)"
_GET = "SELECT value FROM pairs WHERE key = ?"
_PUT = "INSERT OR REPLACE INTO pairs VALUES (?, ?)"
_DELETE = "DELETE FROM pairs WHERE key = ?"
_KEYS = "SELECT key FROM pairs WHERE key >= ? AND key < ? ORDER BY key"
_RANGE = "SELECT key, value FROM pairs WHERE key >= ? ORDER BY key LIMIT ?"


class Sqlite(Engine):
    """One table in one file."""

    name = "sqlite3"
    package = "sqlite3"
    abilities = FULL | {PROCESSES}

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        self._settings = settings
        self._others: list[Engine] = []
        self._connection = sqlite3.connect(
            path / "pairs.sqlite", isolation_level=None, check_same_thread=False, timeout=30
        )
        execute = self._execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        relaxed = "OFF" if self.tuned else "NORMAL"
        execute(f"PRAGMA synchronous = {relaxed if durability == 'os' else 'FULL'}")
        if self.tuned:
            execute(f"PRAGMA mmap_size = {1 << 36}")
            execute("PRAGMA cache_size = -256000")
        if not read_only:
            execute(_CREATE + (" WITHOUT ROWID" if self.tuned else ""))
        self._bind()

    def _bind(self) -> None:
        execute = self._execute

        def get(key: bytes) -> bytes | None:
            row = execute(_GET, (key,)).fetchone()
            return row[0] if row else None

        def put(key: bytes, value: bytes) -> None:
            execute(_PUT, (key, value))

        def delete(key: bytes) -> None:
            execute(_DELETE, (key,))

        self.get, self.put, self.delete, self.get_many = get, put, delete, self._get_many

    @classmethod
    def version(cls) -> str:
        """The version of the library."""
        return sqlite3.sqlite_version

    def _get_many(self, keys: list[bytes]) -> Sequence[bytes | None]:
        marks = ",".join("?" * len(keys))
        rows = self._execute(f"SELECT key, value FROM pairs WHERE key IN ({marks})", keys)
        return list(map(dict(rows.fetchall()).get, keys))

    def load(self, pairs: list[Pair]) -> None:
        """One transaction with ``executemany``."""
        self._execute("BEGIN")
        self._connection.executemany(_PUT, pairs)
        self._execute("COMMIT")

    def items(self) -> Iterator[Pair]:
        """All rows by key."""
        return iter(self._execute("SELECT key, value FROM pairs ORDER BY key"))

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """A range of the primary key."""
        rows = self._execute(_KEYS, (prefix, after_prefix(prefix)))
        return (key for (key,) in rows)

    def range(self, start: bytes, limit: int) -> list[Pair]:
        """A range of the primary key with a limit."""
        return self._execute(_RANGE, (start, limit)).fetchall()

    def for_thread(self) -> Engine:
        """Another connection."""
        self._others.append(Sqlite(self.path, self._settings, self.durability))
        return self._others[-1]

    def close(self) -> None:
        """Close all connections."""
        for other in self._others:
            other.close()
        self._connection.close()
