"""Copies on disk: they survive a restart of the edge.

    b"k" + key    a copy: (version, as_of, expires_at, size of the metadata), metadata, value
    b"p"          (position, covered_from): which changes have been applied to the copies

Invariants:

* The log of the store keeps its order, however the process ends: before each position that is in
  the log come all drops that belong to it.
* When there is no room, the oldest copies are removed first; rewriting a copy makes it new again.
* A damaged copy counts as absent.  So does a copy from before the restart whose version the primary
  had not reached at the restart: the primary was restored from a backup.
* If the disk fails, it is neither read nor written until the next start: a copy that could not be
  dropped is never shown, and the position on disk stays before it.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

from kvengine.edge.lookup import CacheEntry
from kvengine.edge.messages import NEVER
from kvengine.engine.store import Store
from kvengine.errors import CorruptData, KvError, NotAStore

HEAD = struct.Struct("<QQdH")
POSITION = struct.Struct("<QQ")
POSITION_KEY = b"p"
COPY = b"k"
KEEP_SHARE = 0.9  # how full it is after an eviction
CHECK_SHARE = 64  # the size is checked after writing this fraction (1/64) of the capacity
INFINITE = float("inf")
POSITION_EVERY = 1000  # versions; after a crash at most this many changes are applied again

logger = logging.getLogger("kvengine")


class DiskCache:
    """Copies in a store of their own.

    Args:
        path: its folder, created if it does not exist; for simulations: a store, or None for one
            in memory.
        room: the maximum number of bytes of keys and values.

    Raises:
        StoreLocked: another edge uses the folder.
        NotAStore: the folder holds other files.
        CorruptData: it is damaged; remove the folder, it holds only copies.

    Thread-safety: any thread may get(); changes need the lock of the edge.
    """

    def __init__(self, path: Any, room: int) -> None:
        options: Any = {"durability": "os", "groups": (COPY, 1)}
        if path is None or isinstance(path, Store):
            self.store = path or Store.in_memory(compaction="manual", **options)
        else:
            self.store = Store(path, exclusive=True, **options)
        self._opened_at = self.store.version  # copies up to here are from before the restart
        self._origin: float = INFINITE  # the version of the primary at the start
        self._room, self._written, self._saved = room, 0, 0
        self._failed = False
        self.position: tuple[int, int] | None = None
        try:
            self._load(path)
        except BaseException:
            self.store.close()  # else another attempt would find it locked
            raise

    def _load(self, path: Any) -> None:
        data = self.store.get(POSITION_KEY)
        if data is not None and len(data) == POSITION.size:
            self.position = POSITION.unpack(data)
            self._saved = self.position[0]
        elif next(iter(self.store.keys()), None) is not None:
            raise NotAStore(
                f"{path} is a store that does not hold an edge's copies; use another folder"
            )

    def get(self, key: bytes) -> CacheEntry | None:
        """Return the copy of a key."""
        if self._failed:
            return None
        try:
            data = self.store.get(COPY + key)
            if data is None:
                return None
            version, as_of, expires_at, size = HEAD.unpack_from(data)
            if as_of > self._origin and self._predates_start(key):
                return None
        except (CorruptData, struct.error) as error:
            logger.warning("ignored a damaged copy on disk: %s", error)
            return None
        except (KvError, OSError) as error:
            self._fail(error)
            return None
        start = HEAD.size + size
        cached = CacheEntry(
            data[start:], data[HEAD.size : start], expires_at or None, version, as_of, NEVER
        )
        cached.from_disk = True
        return cached

    def _predates_start(self, key: bytes) -> bool:
        entry = self.store.get_entry(COPY + key)
        return entry is None or entry.version <= self._opened_at

    def begin(self, origin_version: int) -> None:
        """Start, with the primary at this version."""
        self._origin = origin_version
        if self.position is not None and self.position[0] > origin_version:
            self.clear()  # another primary, or one restored from a backup

    def keep(self, key: bytes, cached: CacheEntry) -> None:
        """Write a copy."""
        head = HEAD.pack(
            cached.version, cached.as_of, cached.expires_at or 0.0, len(cached.metadata)
        )
        data = b"".join((head, cached.metadata, cached.value or b""))
        self._change(lambda: self.store.put(COPY + key, data))
        self._written += len(key) + len(data)
        if self._written > self._room // CHECK_SHARE:
            self._written = 0
            self._change(self._evict)

    def drop(self, key: bytes) -> None:
        """Remove the copy of a key."""
        self._change(lambda: self.store.delete(COPY + key))

    def reach(self, position: int, covered_from: int) -> None:
        """Set the position; it is saved from time to time."""
        moved = self.position is None or self.position[1] != covered_from
        self.position = (position, covered_from)
        if moved or position - self._saved >= POSITION_EVERY:
            self._save()

    def _save(self) -> None:
        if self.position is not None:
            data = POSITION.pack(*self.position)
            self._change(lambda: self.store.put(POSITION_KEY, data))
            self._saved = self.position[0]

    def clear(self) -> None:
        """Remove everything."""
        self.position = None
        self._change(self.store.clear)

    def _change(self, change: Callable[[], object]) -> None:
        """Change the store, and disable it if that fails."""
        if self._failed:
            return
        try:
            change()
        except (KvError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        if not self.store.closed:
            logger.warning("the disk cache is disabled until the next start: %s", error)

    def size(self) -> int:
        """Return the bytes of all keys and copies."""
        return self.store.group_size(COPY).bytes

    def _evict(self) -> None:
        """Remove the oldest copies, if the cache is too large."""
        if self.size() <= self._room:
            return
        left = self.size() - int(self._room * KEEP_SHARE)
        with self.store.batch() as batch:
            for change in self.store.tail(0, prefix=COPY):
                if left <= 0:
                    break
                entry = self.store.get_entry(change.key)
                if entry is not None and entry.version == change.version:
                    batch.delete(change.key)
                    left -= len(entry.key) + len(entry.value)

    def close(self) -> None:
        """Save the position, and close the store."""
        if not self.store.closed:
            self._save()
        try:
            self.store.close()  # also if an earlier close() was interrupted: it continues
        except (KvError, OSError) as error:
            logger.warning("can't close the disk cache: %s", error)
