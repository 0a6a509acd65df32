"""A store of this process as a source.

Invariants:

* A piece is whole where the store was when it was looked at, which is never within a batch.
* Who waits sleeps, and is woken by the writer.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvengine.engine.applying import size_of_change
from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.replication.messages import Piece

PIECE_CHANGES = 1000
PIECE_BYTES = 4 << 20
HEARTBEAT_S = 1.0


class StoreSource:
    """The log of a store, in pieces.

    Args:
        store: it stays the caller's.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def uuid(self) -> str:
        """Which store it is: 32 hexadecimal digits."""
        return self._store.manifest.uuid.hex()

    @property
    def version(self) -> int:
        """The newest version."""
        return self._store.version

    def pieces(self, after: int, *, follow: bool = False) -> Iterator[Piece]:
        """Yield the log behind a version, as Source does."""
        tail = self._store.tail_from(after, b"")
        while True:
            waiting: list[Change] = []
            size = 0
            for change in tail.news():
                if len(waiting) == PIECE_CHANGES or size > PIECE_BYTES:
                    yield Piece(after, waiting[-1].version, tuple(waiting), False)
                    after, waiting, size = waiting[-1].version, [], 0
                waiting.append(change)
                size += size_of_change(change)
            yield Piece(after, tail.seen, tuple(waiting), True)
            if not follow:
                return
            after = tail.seen
            self._store.wait(after, HEARTBEAT_S)
