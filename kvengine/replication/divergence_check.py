"""Divergence check: a replica compares its last changes with its source before it continues.

A source that lost its last changes in a power cut assigns their versions again, to other changes.
A replica that continued after them would mix two histories.  So the last few changes are requested
and compared again.

Invariants:

* A difference is an error, and nothing is written.
* Versions that can't be compared are not an error: the source may have compacted them, and then
  only a digest proves that the two are equal.
"""

from __future__ import annotations

from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.errors import ReplicaDiverged
from kvengine.replication.network.messages import Piece

VERSIONS = 8  # so many of the last versions are compared
FAR = 10_000  # versions; not worth reading so many again


class DivergenceCheck:
    """The last changes of a replica.

    Args:
        store: the replica.
        position: how far it has come.
    """

    def __init__(self, store: Store, position: int) -> None:
        self._position = position
        self._mine: dict[int, Change] = {}
        self.after = position  # ask the source for what comes behind this version
        newest = store._parts.applied_version
        # Not from 0: that would ask for a scan, in which forgotten deletes are missing.
        after = max(newest - VERSIONS, 1)
        if newest <= 1 or position - newest > FAR:
            return
        self._mine = {
            change.version: change for change in store._parts.tail_from(after, b"").held()
        }
        if self._mine:
            self.after = after

    def compare(self, piece: Piece) -> None:
        """Compare what a piece repeats.

        Raises:
            ReplicaDiverged: the source has another change under a version.
        """
        if piece.after >= self._position:
            return
        for change in piece.changes:
            mine = self._mine.get(change.version)
            if mine is not None and not same(mine, change):
                raise ReplicaDiverged(
                    f"version {change.version} is a different change in the source than here: one "
                    "of the two lost its last changes and continued; nothing was overwritten; "
                    "find out which one is right, then replace the replica with "
                    "start_over=True, or promote it"
                )


def same(one: Change, other: Change) -> bool:
    """True if two records say the same; compaction makes a delete of what has expired."""
    if one == other:
        return True
    kinds = {one.kind, other.kind}
    expires = one.expires_at is not None or other.expires_at is not None
    return one[0] == other[0] and one.key == other.key and kinds == {"put", "delete"} and expires
