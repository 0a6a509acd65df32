"""WiredTiger through its own Python module.

Invariants: the log is on.  "os" is ``transaction_sync=(enabled=true,method=none)``, where a commit
is written to the kernel; "sync" is ``method=fsync``.

default: 100 MB of cache (WiredTiger's own default).
tuned:   1 GB of cache, log files that are not compressed, a cursor kept open
         (source.wiredtiger.com: "Cache and eviction tuning", "Commit-level durability",
         "Cursors").  Both settings keep the cursor: opening one for each call is advised against.

Its wheel is built from source and needs SWIG before 4.4: see README.md.
"""

from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from benchmarks.engines.base import (
    FULL,
    Durability,
    Engine,
    Pair,
    after_prefix,
    peer_module,
)

_TABLE = "table:pairs"


class WiredTiger(Engine):
    """One table of raw bytes."""

    name = "wiredtiger"
    package = "wiredtiger"
    abilities = FULL

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        method = "none" if durability == "os" else "fsync"
        self._connection: Any = peer_module("wiredtiger", "wiredtiger").wiredtiger_open(
            str(path),
            f"create,cache_size={1000 if self.tuned else 100}MB,log=(enabled=true),"
            f"transaction_sync=(enabled=true,method={method})",
        )
        self._session: Any = self._connection.open_session()
        self._session.create(_TABLE, "key_format=u,value_format=u")
        self._cursor: Any = self._session.open_cursor(_TABLE, None, "overwrite=true")
        self.put = self._cursor.__setitem__
        self.get, self.delete = _getter(self._cursor), self._delete
        get = self.get
        self.get_many = lambda keys: list(map(get, keys))

    def _delete(self, key: bytes) -> None:
        self._cursor.set_key(key)
        self._cursor.remove()

    def load(self, pairs: list[Pair]) -> None:
        """One transaction."""
        self._session.begin_transaction()
        put = self._cursor.__setitem__
        for key, value in pairs:
            put(key, value)
        self._session.commit_transaction()

    def items(self) -> Iterator[Pair]:
        """A cursor of its own from the first key on."""
        return self._from(b"")

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """A cursor of its own; it always fetches the value too."""
        within = after_prefix(prefix).__gt__
        return takewhile(within, (key for key, _value in self._from(prefix)))

    def range(self, start: bytes, limit: int) -> list[Pair]:
        """``search_near`` and that many steps."""
        return list(islice(self._from(start), limit))

    def _from(self, start: bytes) -> Iterator[Pair]:
        cursor = self._session.open_cursor(_TABLE, None, None)
        try:
            if start:
                cursor.set_key(start)
                if cursor.search_near() in {0, 1}:  # found, or found a larger one
                    yield cursor.get_key(), cursor.get_value()
            while cursor.next() == 0:
                yield cursor.get_key(), cursor.get_value()
        finally:
            cursor.close()

    def close(self) -> None:
        """Checkpoint and close."""
        self._connection.close()


def _getter(cursor: Any) -> Callable[[bytes], bytes | None]:
    set_key, search, get_value = cursor.set_key, cursor.search, cursor.get_value

    def get(key: bytes) -> bytes | None:
        set_key(key)
        value: bytes | None = get_value() if search() == 0 else None
        return value

    return get
