"""A store that is frozen: a side of a comparison, and a source up to its version.

Invariants:

* Every answer is as of one version; if the store has gone on, there is an error instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from kvengine.engine.following.digest_scan import RangeWalk
from kvengine.engine.store import Store
from kvengine.errors import InvalidRequest
from kvengine.replication.difference import RangeDigest
from kvengine.replication.local_source import LocalSource
from kvengine.replication.selection import KeyRange


class FrozenStore(LocalSource):
    """A store that is frozen, as a side of a comparison, and as a source up to that version.

    Args:
        store: a snapshot, or a store that nobody writes to meanwhile.

    Thread-safety: for one thread.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._version = store.version

    @property
    def version(self) -> int:
        """The version of the store."""
        return self._version

    def digests(self, ranges: Sequence[KeyRange], moment: int) -> list[RangeDigest]:
        """Return the digest of each range."""
        found = []
        for start, end in ranges:
            walk = RangeWalk(self.store._parts, self.store._parts.key_order, start, end)
            found.append(RangeDigest(*walk.summed().total(moment)))
        self._check()
        return found

    def cuts(self, among: KeyRange, parts: int, moment: int) -> list[bytes]:
        """Return about as many keys of a range, evenly spread."""
        (whole,) = self.digests([among], moment)
        step = max(1, -(-whole.keys // parts))
        found = RangeWalk(self.store._parts, self.store._parts.key_order, *among).cut(step, moment)
        self._check()
        return found

    def _check(self) -> None:
        if self.store.version != self._version:
            raise InvalidRequest(
                f"the store went on from version {self._version} to {self.store.version} while it "
                "was compared; compare a snapshot"
            )


class Snapshot(FrozenStore, AbstractContextManager["Snapshot"]):
    """A store as it is now: the side that a follower compares itself with."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.snapshot())

    def close(self) -> None:
        """Give the snapshot back."""
        self.store.close()

    def __exit__(self, *exc_info: object) -> None:
        self.close()
