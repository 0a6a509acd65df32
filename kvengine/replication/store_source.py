"""A store of this process as a source, and as a side of a comparison.

Invariants:

* A piece is whole where the store was when it was looked at, which is never within a batch.
* Who waits sleeps, and is woken by the writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from kvengine.engine.applying import size_of_change
from kvengine.engine.digest_scan import RangeWalk
from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.errors import InvalidRequest
from kvengine.replication.difference import RangeDigest
from kvengine.replication.messages import Piece
from kvengine.replication.selection import KeyRange

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

    def standing(self) -> Snapshot:
        """Return the store as it is now, to compare with; close it."""
        return Snapshot(self._store)


class Standing(StoreSource):
    """A store that stands still, as a side of a comparison, and as a source up to that version.

    Args:
        store: a snapshot, or a store that nobody writes to meanwhile.

    Thread-safety: for one thread.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._version = store.version

    @property
    def version(self) -> int:
        """The version at which the store stands."""
        return self._version

    def digests(self, ranges: Sequence[KeyRange], moment: int) -> list[RangeDigest]:
        """Return the digest of each range."""
        found = []
        for start, end in ranges:
            walk = RangeWalk(self._store, self._store.key_order, start, end)
            found.append(RangeDigest(*walk.summed().total(moment)))
        self._check()
        return found

    def cuts(self, among: KeyRange, parts: int, moment: int) -> list[bytes]:
        """Return about as many keys of a range, evenly spread."""
        (whole,) = self.digests([among], moment)
        step = max(1, -(-whole.keys // parts))
        found = RangeWalk(self._store, self._store.key_order, *among).cut(step, moment)
        self._check()
        return found

    def _check(self) -> None:
        if self._store.version != self._version:
            raise InvalidRequest(
                f"the store went on from version {self._version} to {self._store.version} while it "
                "was compared; compare a snapshot"
            )


class Snapshot(Standing, AbstractContextManager["Snapshot"]):
    """A store as it is now: the side that a follower compares itself with."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.snapshot())

    def close(self) -> None:
        """Give the snapshot back."""
        self._store.close()

    def __exit__(self, *exc_info: object) -> None:
        self.close()
