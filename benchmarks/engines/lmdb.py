"""LMDB through py-lmdb.

Invariants: "os" is ``sync=False``, where a commit is in the page cache when it returns; "sync" is
the default of LMDB.  The map is larger than any store here, because LMDB never grows it.

default: a read transaction and a write transaction for each call, as the README of py-lmdb shows.
tuned:   one read transaction that is begun anew after writes, ``writemap`` and ``map_async``,
         (py-lmdb's documentation, "Transaction management" and ``Environment``; LMDB's ``lmdb.h``
         on MDB_WRITEMAP).  ``Cursor.getmulti`` was tried and is slower than this loop, because its
         answer must be put in the order of the request.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from benchmarks.engines.base import (
    FULL,
    PROCESSES,
    THREADS,
    Durability,
    Engine,
    Pair,
    after_prefix,
    peer_module,
)

_MAP_BYTES = 256 << 30  # address space, not memory


class Lmdb(Engine):
    """An LMDB environment with one unnamed database."""

    name = "lmdb"
    package = "lmdb"
    abilities = FULL | {THREADS, PROCESSES}

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        lmdb = peer_module("lmdb", "lmdb")
        relaxed = durability == "os"
        self._environment: Any = lmdb.open(
            str(path),
            map_size=_MAP_BYTES,
            sync=not relaxed,
            metasync=not relaxed,
            writemap=self.tuned and relaxed and not read_only,
            map_async=self.tuned and relaxed,
            readonly=read_only,
            max_readers=64,
        )
        self.put, self.delete = self._put, self._delete
        self._reader: Any = None
        self.get, self.get_many = self._get_in_own, self._get_many_in_own
        self.refresh()

    def _get_in_own(self, key: bytes) -> bytes | None:
        with self._environment.begin() as transaction:
            value: bytes | None = transaction.get(key)
            return value

    def _get_many_in_own(self, keys: list[bytes]) -> Sequence[bytes | None]:
        with self._environment.begin() as transaction:
            return list(map(transaction.get, keys))

    def _get_many(self, keys: list[bytes]) -> Sequence[bytes | None]:
        return list(map(self._reader.get, keys))

    def _put(self, key: bytes, value: bytes) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def _delete(self, key: bytes) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.delete(key)

    def load(self, pairs: list[Pair]) -> None:
        """One transaction with ``putmulti``."""
        with self._environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(pairs)

    def items(self) -> Iterator[Pair]:
        """A cursor from the first key on."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            yield from cursor.iternext()

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """A cursor without values; the end is tested in C by ``takewhile``."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(prefix):
                within = after_prefix(prefix).__gt__
                yield from takewhile(within, cursor.iternext(keys=True, values=False))

    def range(self, start: bytes, limit: int) -> list[Pair]:
        """``set_range`` and that many steps."""
        if not self.tuned:
            with self._environment.begin() as transaction, transaction.cursor() as cursor:
                return list(islice(cursor.iternext(), limit)) if cursor.set_range(start) else []
        with self._reader.cursor() as cursor:
            return list(islice(cursor.iternext(), limit)) if cursor.set_range(start) else []

    def refresh(self) -> None:
        """Renew the read transaction."""
        if self.tuned:
            self.before_writes()
            self._reader = self._environment.begin()
            self.get, self.get_many = self._reader.get, self._get_many

    def fresh_get(self) -> Callable[[bytes], bytes | None]:
        """A transaction for each call, which py-lmdb keeps and renews."""
        self.before_writes()
        return self._get_in_own

    def before_writes(self) -> None:
        """End the read transaction: while it lives no page that it can see is used again."""
        if self._reader is not None:
            self._reader.abort()
            self._reader = None

    def close(self) -> None:
        """End the read transaction, then close."""
        self.before_writes()
        self._environment.close()
