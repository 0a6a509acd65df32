"""Applier: pieces of a source's log become states of a replica.

Invariants:

* The replica goes from one state that its source had to the next, each at once, for readers and
  for the disk: what is not whole yet waits in memory, and above some size in staged segments.
* A piece that was seen is left out; one that does not follow on what was seen is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvengine.engine.access.applying import size_of_change
from kvengine.engine.following.replica import Staging
from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.errors import KvError
from kvengine.replication.network.messages import Piece
from kvengine.replication.piece_order import PieceOrder
from kvengine.replication.selection import Selection

STAGE_BYTES = 32 << 20  # what waits in memory; more is staged
CHUNK_BYTES = 8 << 20  # written to staged segments at once


class MissingPiece(KvError):
    """A piece does not follow on the one before: ask for it again."""


class Applier:
    """One way of changes into a replica, from one call of Source.pieces().

    Args:
        store: the replica.
        position: the replica holds what its source held at this version.
        selection: which keys the replica holds.
        start_over: the new changes replace everything that the replica holds, from version 0.

    Thread-safety: for one thread, which alone writes to the replica.
    """

    def __init__(
        self, store: Store, position: int, selection: Selection, *, start_over: bool
    ) -> None:
        self.position = position  # of the last whole state
        self._order = PieceOrder(0 if start_over else position)
        self._store, self._selection = store, selection
        self._starts_over = start_over
        self._waiting: list[Change] = []
        self._bytes = 0
        self._staging: Staging | None = None

    def take(self, piece: Piece) -> bool:
        """Take a piece in; True if the replica then holds what its source held at `piece.upto`.

        Raises:
            MissingPiece: there are versions between what was seen and this piece.
            StorageFull: there is no room; what came since the last whole state must come again.
        """
        passed = self._order.take(piece)
        if passed is None:
            if self._order.ask_from is not None:
                raise MissingPiece(
                    f"versions {self.seen + 1} to {piece.after} are missing from the stream"
                )
            return False
        self._add(passed.changes)
        if passed.whole:
            self._commit(passed.upto)
        return passed.whole

    @property
    def seen(self) -> int:
        """What came up to this version waits, or is in the replica."""
        return self._order.position

    def _add(self, changes: Iterable[Change]) -> None:
        takes_all, takes = self._selection.takes_all, self._selection.takes
        for change in changes:
            if takes_all or takes(change.key):
                self._waiting.append(change)
                self._bytes += size_of_change(change)
                if self._bytes > (CHUNK_BYTES if self._is_staged else STAGE_BYTES):
                    self._stage_all()

    @property
    def _is_staged(self) -> bool:
        return self._starts_over or self._staging is not None

    def _stage_all(self) -> Staging:
        """Stage what waits, with what was staged before."""
        if self._staging is None:
            after = 0 if self._starts_over else self._store._parts.applied_version
            self._staging = Staging(self._store._parts, after, keep=not self._starts_over)
        self._staging.add(tuple(self._waiting))
        self._waiting, self._bytes = [], 0
        return self._staging

    def _commit(self, version: int) -> None:
        if self._is_staged:
            self._stage_all().adopt(version)
            self._staging, self._starts_over = None, False
        else:
            self._store._parts.apply(tuple(self._waiting))
            self._waiting, self._bytes = [], 0
        self.position = version

    def discard(self) -> None:
        """Forget what is not whole."""
        if self._staging is not None:
            self._staging.discard()
        self._staging, self._waiting, self._bytes = None, [], 0
