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
from typing import TYPE_CHECKING

from kvengine.engine import segment_file
from kvengine.engine.log_walk import LogWalk, Selector
from kvengine.entry import Change
from kvengine.errors import ChangesGone

if TYPE_CHECKING:
    from kvengine.engine.store import Store

CHANGES_AT_ONCE = 256


class Tail:
    """A place in the log, behind a version.

    Thread-safety: for one thread.
    """

    def __init__(self, store: Store, after: int, keys: Selector) -> None:
        self._store, self._keys = store, keys
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
        walks, version, end = self._store.undisturbed(self._walks)
        # Only now: what a compaction forgot is known before its segments are seen.
        forgotten = self._store.manifest.forgotten
        if 0 < self.seen < forgotten:
            raise ChangesGone(self.seen, forgotten)
        return self._read(walks, version, end)

    def held(self) -> Iterator[Change]:
        """Return an iterator over those changes since that are there, whatever was forgotten."""
        return self._read(*self._store.undisturbed(self._walks))

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

    def _read(self, walks: list[LogWalk], version: int, end: tuple[int, int]) -> Iterator[Change]:
        for walk in walks:
            while found := walk.changes(self.seen, CHANGES_AT_ONCE, self._keys):
                yield from found
        self.seen = max(self.seen, version)
        self._segment_id, self._offset = end


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
