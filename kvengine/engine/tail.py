"""The log as a series of changes, from any version on.

Invariants:

* Changes come in the order of their versions, each at most once.
* A tail that began keeps its segments, so compaction does not disturb it.
* Where deletes have been forgotten, a tail from a version before them is refused, not shortened.
* Going on costs what is new: a tail remembers how far it has read the segment being written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kvengine.engine import segment_file
from kvengine.engine.log_walk import MANY_BYTES, LogWalk, Selector
from kvengine.entry import Change
from kvengine.errors import ChangesGone

if TYPE_CHECKING:
    from kvengine.engine.store import Store

CHANGES_AT_ONCE = 256


class Stretch(NamedTuple):
    """Neighboring changes of a tail: all above `after`, up to `upto`."""

    after: int
    upto: int
    changes: list[Change]
    whole: bool  # the last one of what was there


class Tail:
    """A place in the log, behind a version.

    Thread-safety: for one thread.
    """

    def __init__(self, store: Store, after: int, keys: Selector, base: int = 0) -> None:
        self._store, self._keys = store, keys
        self._reached = after  # as far as the stretches went that were given out
        self.base = base  # deletes up to this version are not missed
        self.seen = after  # changes up to this version were given out, or are not of these keys
        self._segment_id, self._offset = 0, 0  # the segment that was read last, and how far
        if after >= store.version:
            store.undisturbed(self._begin_at_end)

    def _begin_at_end(self) -> None:
        if self._store.rows and self.seen >= self._store.applied_version:
            self._segment_id, self._offset = self._end()

    def _end(self) -> tuple[int, int]:
        segment_id = self._store.rows[-1].id
        return segment_id, self._store.segment_table.counters(segment_id)[1]

    def news(self) -> Iterator[Change]:
        """Return an iterator over what came since, up to what is there now.

        Raises:
            ChangesGone: deletes that were not seen have been forgotten.
        """
        return (change for part in self.stretches(CHANGES_AT_ONCE) for change in part.changes)

    def stretches(self, most: int, most_bytes: int = MANY_BYTES) -> Iterator[Stretch]:
        """Return an iterator over the same as news(), in stretches; the last one is `whole`.

        Args:
            most: a stretch has at most so many changes.
            most_bytes: and its records are larger than this only by the last one.

        Raises:
            ChangesGone: deletes that were not seen have been forgotten.
        """
        base = self._store.manifest.forgotten  # before the segments are seen: too low is harmless
        if self.seen == 0:
            self.base = base
        walks, version, end = self._store.undisturbed(self._walks)
        # Only now: what a compaction forgot is known before its segments are seen.
        forgotten = self._store.manifest.forgotten
        if 0 < self.seen < forgotten and self.base < forgotten:
            raise ChangesGone(self.seen, forgotten)
        return self._read(walks, version, end, most, most_bytes)

    def held(self) -> Iterator[Change]:
        """Return an iterator over those changes since that are there, whatever was forgotten."""
        found = self._store.undisturbed(self._walks)
        parts = self._read(*found, CHANGES_AT_ONCE, MANY_BYTES)
        return (change for part in parts for change in part.changes)

    def _walks(self) -> tuple[list[LogWalk], int, tuple[int, int]]:
        """Return where there is something to read, and what is read then."""
        table, walks = self._store.segment_table, []
        for row in self._store.rows:
            if row.last_version is not None and row.last_version <= self.seen:
                continue
            start = self._offset if row.id == self._segment_id else segment_file.HEADER_BYTES
            end = table.counters(row.id)[1]
            walks.append(LogWalk(table.segment_file(row.id), table.salt(row.id), start, end))
        end_of_log = self._end() if self._store.rows else (0, 0)
        return walks, self._store.applied_version, end_of_log

    def _read(
        self,
        walks: list[LogWalk],
        version: int,
        end: tuple[int, int],
        most: int,
        most_bytes: int,
    ) -> Iterator[Stretch]:
        self._reached = self.seen
        for walk in walks:
            while found := walk.changes(self.seen, most, self._keys, most_bytes):
                after, self._reached = self._reached, walk.version
                yield Stretch(after, walk.version, found, False)
        after, self._reached = self._reached, max(self._reached, self.seen, version)
        self.seen = self._reached
        self._segment_id, self._offset = end
        yield Stretch(after, self.seen, [], True)


def follow(store: Store, tail: Tail, timeout: float | None) -> Iterator[Change | None]:
    """Yield changes as they come, and None each time before waiting; Store.follow has more."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        for change in tail.news():
            yield change
            if timeout is not None:
                deadline = time.monotonic() + timeout
        yield None
        rest = None if deadline is None else deadline - time.monotonic()
        if rest is not None and rest <= 0:
            return
        store.wait(tail.seen, rest)
