"""What comes over a bad line is put in order, or asked for again.

Invariants:

* What was passed follows on what was passed before, without a gap and without a repeat.
* What can't be passed changes nothing; `ask_from` then says which version to ask for.
"""

from __future__ import annotations

from kvengine.replication.network.messages import Piece


class PieceOrder:
    """Passes what is new.

    Args:
        position: everything up to this version is known.  Pieces must come from a source that was
            asked for the changes after this version or an older one.  One that was asked for
            those after 0 leaves out deletes, which an empty replica does not need.

    Thread-safety: for one thread.
    """

    def __init__(self, position: int) -> None:
        self.position = position  # all up to this version was passed
        self.ask_from: int | None = None  # ask again from this version; None: nothing is missing

    def take(self, piece: Piece) -> Piece | None:
        """Return the piece, or the part of it that is new, or None; then see `ask_from`."""
        if piece.after > self.position:
            self.ask_from = self.position
            return None
        if piece.upto < self.position or (piece.upto == self.position and piece.changes):
            return None  # a repeat
        changes = piece.changes
        if piece.after < self.position:
            changes = tuple(change for change in changes if change.version > self.position)
        passed = Piece(self.position, piece.upto, changes, piece.whole)
        self.position, self.ask_from = piece.upto, None
        return passed
