"""The log of a store as a Source.

Invariants:

* Pieces follow on each other without a gap; the last one of a pull is whole, and no other.
* A piece has at most PIECE_CHANGES changes, and is larger than PIECE_BYTES only by its last one.
* A follower sleeps until the writer wakes it, in this process or in another one.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvengine.engine.following.tail import LogRange, Tail
from kvengine.engine.store import Store
from kvengine.replication.network.messages import Piece

PIECE_CHANGES = 4096
PIECE_BYTES = 4 << 20
HEARTBEAT_S = 2.0


class LocalSource:
    """The log of a store; one that is read-only gives what its writer has written.

    Args:
        store: stays open as long as it is read from.
        prefix: only changes of keys that begin with it.
        heartbeat_s: how often a piece without changes says that there is nothing new.

    Thread-safety: threads may share it; an iterator is for one.
    """

    def __init__(
        self, store: Store, *, prefix: bytes = b"", heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._store, self._prefix, self._heartbeat_s = store, prefix, heartbeat_s

    @property
    def store(self) -> Store:
        """The store."""
        return self._store

    @property
    def uuid(self) -> bytes:
        """Which store it is: 16 bytes."""
        return self._store._parts.manifest.uuid

    @property
    def version(self) -> int:
        """The newest version."""
        return self._store.version

    def ranges(self, tail: Tail) -> Iterator[LogRange]:
        """Return an iterator over what came since."""
        return tail.ranges(PIECE_CHANGES, PIECE_BYTES)

    def pieces(self, after: int, *, follow: bool = False) -> Iterator[Piece]:
        """Yield the log behind a version; see Source."""
        tail = self._store._parts.tail_from(after, self._prefix)
        while True:
            last = None
            for found in self.ranges(tail):
                if last is not None and not found.whole:
                    yield last
                if last is not None and found.whole:
                    last = last._replace(upto=found.upto, whole=True)
                else:
                    last = Piece(found.after, found.upto, tuple(found.changes), found.whole)
            if last is not None:
                yield last
            if not follow:
                return
            self._store.wait(tail.seen, self._heartbeat_s)
