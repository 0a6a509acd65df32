"""The log as a series of changes, from any version on.

Invariants:

* Changes come in the order of their versions, each at most once.
* A tail that began keeps its segments, so compaction does not disturb it.
* Where deletes have been forgotten, a tail from a version before them is refused, not shortened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvengine.engine import segment_file
from kvengine.engine.log_walk import LogWalk
from kvengine.entry import Change
from kvengine.errors import ChangesGone

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts

CHANGES_AT_ONCE = 256


def changes(store: StoreParts, after: int) -> Iterator[Change]:
    """Yield the changes above a version, up to what is there now.

    Raises:
        ChangesGone: deletes above `after` have been forgotten.
    """
    walks = store.undisturbed(lambda: _segments(store, after))
    # Only now: what a compaction forgot is known before its segments are seen.
    forgotten = store.manifest.forgotten
    if 0 < after < forgotten:
        raise ChangesGone(after, forgotten)
    return _walk(walks, after)


def _segments(store: StoreParts, after: int) -> list[LogWalk]:
    walks = []
    table = store.segment_table
    for row in store.rows:
        if row.last_version is not None and row.last_version <= after:
            continue
        _, end, _, _, _ = table.counters(row.id)
        walks.append(
            LogWalk(table.segment_file(row.id), table.salt(row.id), segment_file.HEADER_BYTES, end)
        )
    return walks


def _walk(walks: list[LogWalk], after: int) -> Iterator[Change]:
    for walk in walks:
        while found := walk.changes(after, CHANGES_AT_ONCE):
            yield from found
