"""The log as a series of changes, from any version on.

Invariants:

* Changes come in the order of their versions, each at most once.
* A tail that has started keeps its segments, so compaction does not disturb it.
* A tail from a version before compacted deletes is refused, not shortened; so is one from a version
  that the log does not have, or has lost.
* Continuing costs only what is new: a tail remembers how far it has read the segment being written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from kvengine.engine.log.log_walk import LogWalk, Selector, walks_behind
from kvengine.engine.parts import StoreParts
from kvengine.entry import Change
from kvengine.errors import LogCompacted

CHANGES_AT_ONCE = 256
BYTES_AT_ONCE = 1 << 20  # of their records; the last one may be larger


class LogRange(NamedTuple):
    """Neighboring changes of a tail: all above `after`, up to `upto`."""

    after: int
    upto: int
    changes: list[Change]
    whole: bool  # the last one of what was there


class Tail:
    """A place in the log, behind a version.

    Thread-safety: for one thread.
    """

    def __init__(self, store: StoreParts, after: int, keys: Selector, base: int = 0) -> None:
        self._store, self._keys = store, keys
        self._reached = after  # the end of the last range that was returned
        self.base = base  # deletes up to this version are not missed
        self.seen = after  # changes up to this version were given out, or are not of these keys
        self._segment_id, self._offset = 0, 0  # the segment that was read last, and how far
        version = store.version
        self._lost = store.lost_after
        if after > version:
            raise LogCompacted(after, version)
        if after == version:
            _, version, end = self._walks()
            if after == version:
                self._segment_id, self._offset = end

    def changes(self) -> Iterator[Change]:
        """Return an iterator over what came since, up to what is there now.

        Raises:
            LogCompacted: deletes that were not seen have been forgotten.
        """
        return self._one_by_one(self.ranges(CHANGES_AT_ONCE))

    def _one_by_one(self, parts: Iterator[LogRange]) -> Iterator[Change]:
        for part in parts:
            for change in part.changes:
                if self._store.is_forked:
                    self._store.check_usable()
                yield change

    def ranges(self, most: int, most_bytes: int = BYTES_AT_ONCE) -> Iterator[LogRange]:
        """Return an iterator over the same changes in batches; the last batch is `whole`.

        Args:
            most: the most changes in one range.
            most_bytes: and its records are larger than this only by the last one.

        Raises:
            LogCompacted: deletes that were not seen have been forgotten, or changes that were seen
                were lost.
        """
        base = self._store.manifest.forgotten  # before the segments are seen: too low is harmless
        if self.seen == 0:
            self.base = base
        walks, version, end = self._walks()
        # Only now: what a compaction forgot is known before its segments are seen.
        forgotten = self._store.manifest.forgotten
        if 0 < self.seen < forgotten and self.base < forgotten:
            raise LogCompacted(self.seen, forgotten)
        lost = self._store.lost_after
        if self.seen > version or (lost != self._lost and lost is not None and self.seen > lost[1]):
            raise LogCompacted(self.seen, version if lost is None else lost[1])
        self._lost = lost
        return self._read(walks, version, end, most, most_bytes)

    def held(self) -> Iterator[Change]:
        """Return an iterator over those changes since that are there, whatever was forgotten."""
        return self._one_by_one(self._read(*self._walks(), CHANGES_AT_ONCE, BYTES_AT_ONCE))

    def _walks(self) -> tuple[list[LogWalk], int, tuple[int, int]]:
        """Return where there is something to read, up to which version, and where it ends."""
        return walks_behind(self._store, self.seen, self._segment_id, self._offset)

    def _read(
        self,
        walks: list[LogWalk],
        version: int,
        end: tuple[int, int],
        most: int,
        most_bytes: int,
    ) -> Iterator[LogRange]:
        self._reached = self.seen
        for walk in walks:
            while found := walk.changes(self.seen, most, self._keys, most_bytes):
                after, self._reached = self._reached, walk.version
                yield LogRange(after, walk.version, found, False)
        after, self._reached = self._reached, max(self._reached, self.seen, version)
        self.seen = self._reached
        self._segment_id, self._offset = end
        yield LogRange(after, self.seen, [], True)


def follow(store: StoreParts, tail: Tail, timeout: float | None) -> Iterator[Change | None]:
    """Yield changes as they come, and None each time before waiting; Store.follow has more."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        for change in tail.changes():
            yield change
            if timeout is not None:
                deadline = time.monotonic() + timeout
        yield None
        rest = None if deadline is None else deadline - time.monotonic()
        if rest is not None and rest <= 0:
            return
        store.waiting.wait(store, tail.seen, rest)
