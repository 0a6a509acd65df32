"""Copies on disk: they survive a restart of the edge.

    b"k" + key    a copy: (version, as_of, expires_at, size of the metadata), metadata, value
    b"p"          (position, covered_from): which changes have been applied to the copies

Invariants:

* The log of the store keeps its order, however the process ends: before each position that is in
  the log come all drops that belong to it.
* When there is no room, the oldest copies are removed first; rewriting a copy makes it new again.
* A damaged copy counts as absent.  So does a copy from an earlier life with a version that the
  primary had not reached when this life began: the primary was restored from a backup.
* If the disk fails, it is neither read nor written until the next start: what could not be dropped
  is never shown, and the position on disk stays before it.
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
KEEP_SHARE = 0.9  # how full it is left after the oldest copies went
CHECK_SHARE = 64  # the size is looked at each time that one part in so many was written
INFINITE = float("inf")
POSITION_EVERY = 1000  # versions; after a crash so many changes are applied again, and no more

logger = logging.getLogger("kvengine")


class DiskCache:
    """Copies in a store of their own.

    Args:
        path: its folder, created if it does not exist; for simulations: a store, or None for one
            in memory.
        room: how many bytes of keys and values it may hold.

    Raises:
        StoreLocked: another edge uses the folder.
        NotAStore: the folder holds other files.
        CorruptData: it is damaged; remove the folder, it holds only copies.

    Thread-safety: threads may get; they change it under the lock of the edge.
    """

    def __init__(self, path: Any, room: int) -> None:
        options: Any = {"durability": "os", "groups": (COPY, 1)}
        if path is None or isinstance(path, Store):
            self.store = path or Store.in_memory(compaction="manual", **options)
        else:
            self.store = Store(path, exclusive=True, **options)
        self._opened_at = self.store.version  # of its own versions; up to here are earlier lives
        self._origin: float = INFINITE  # where the primary was when this life began
        self._room, self._written, self._saved = room, 0, 0
        self._failed = False
        self.position: tuple[int, int] | None = None
        try:
            self._load(path)
        except BaseException:
            self.store.close()  # another attempt must not find it locked
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
            if as_of > self._origin and self._is_of_an_earlier_life(key):
                return None
        except (CorruptData, struct.error) as error:
            logger.warning("ignored a damaged copy on disk: %s", error)
            return None
        except (KvError, OSError) as error:
            self._fail(error)
            return None
        start = HEAD.size + size
        held = CacheEntry(
            data[start:], data[HEAD.size : start], expires_at or None, version, as_of, NEVER
        )
        held.from_disk = True
        return held

    def _is_of_an_earlier_life(self, key: bytes) -> bool:
        entry = self.store.get_entry(COPY + key)
        return entry is None or entry.version <= self._opened_at

    def begin(self, origin_version: int) -> None:
        """A life of the edge begins, and the primary is at a version."""
        self._origin = origin_version
        if self.position is not None and self.position[0] > origin_version:
            self.clear()  # the primary is another one, or was restored from a backup

    def keep(self, key: bytes, held: CacheEntry) -> None:
        """Write a copy."""
        head = HEAD.pack(held.version, held.as_of, held.expires_at or 0.0, len(held.metadata))
        data = b"".join((head, held.metadata, held.value or b""))
        self._change(lambda: self.store.put(COPY + key, data))
        self._written += len(key) + len(data)
        if self._written > self._room // CHECK_SHARE:
            self._written = 0
            self._change(self._make_room)

    def drop(self, key: bytes) -> None:
        """Remove the copy of a key."""
        self._change(lambda: self.store.delete(COPY + key))

    def reach(self, position: int, covered_from: int) -> None:
        """Changes up to a version have been applied; now and then it is written down."""
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
        """Remove everything: the upstream is another one, or has gone back."""
        self.position = None
        self._change(self.store.clear)

    def _change(self, change: Callable[[], object]) -> None:
        """Change the store; if that fails, it is not used any more."""
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
        """Return how many bytes the keys and copies have."""
        return self.store.group_size(COPY).bytes

    def _make_room(self) -> None:
        """Remove the oldest copies, if there are too many."""
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
        """Write down the position, and give everything back."""
        if not self.store.closed:
            self._save()
        try:
            self.store.close()  # again: an interrupted close continues
        except (KvError, OSError) as error:
            logger.warning("can't close the disk cache: %s", error)
