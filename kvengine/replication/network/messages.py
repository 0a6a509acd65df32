"""The messages from a source of changes to its followers, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from kvengine.entry import Change


class Piece(NamedTuple):
    """A stretch of the log: all that is known of the versions above `after`, up to `upto`.

    A version that is missing was overwritten since, or its key was not asked for.
    """

    after: int
    upto: int
    changes: tuple[Change, ...]  # in the order of their versions
    whole: bool  # with it, what a follower holds is what the source held at version `upto`


class Source(Protocol):
    """Gives the log from any version on: a store, or the far end of a connection."""

    @property
    def version(self) -> int:
        """The newest version, as far as it is known here."""

    def pieces(self, after: int, *, follow: bool = False) -> Iterator[Piece]:
        """Yield the log behind a version, in pieces that follow on each other without a gap.

        Args:
            after: the version that is known already.
            follow: wait for more when all is given; a piece without changes is then a heartbeat.

        Raises:
            LogCompacted: deletes after `after` have been compacted away; start over from 0.
        """
