"""What to compact next: a pure function of how full the segments are.

Invariants:

* A plan names neighboring, closed segments, so the log stays in the order of versions.
* A plan frees bytes, or merges several small segments into one; so a series of plans ends.
* Deletes may be dropped only where no older segment outside the plan holds a dead record: it could
  hold an older value of the same key, which a rebuilt index would bring back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GARBAGE_BYTES_MIN = 1 << 20  # less is not worth a job, whatever the ratio
SMALL_NEIGHBORS_MIN = 8  # so many small segments in a row are merged
WINDOW_SEGMENTS_MAX = 64
RECLAIMED_SHARE_MIN = 0.08  # of the bytes that a job reads

SPACE_LIMIT = 1.4  # log bytes / live bytes, above which writers are slowed down
SLACK_BYTES = 2 << 20  # whatever the ratio
EXCESS_SHARE = 0.2  # of the live bytes: so far above the limit they are as slow as can be
PAUSES_MAX_S = 0.1  # of writers, in all, for each few megabytes that they write
PAUSE_MAX_S = 0.005  # of one call, too short to notice


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment; sizes in bytes, without the header."""

    id: int
    log_bytes: int  # all records
    live_bytes: int  # records that readers see
    tombstone_bytes: int  # deletes
    first_version: int
    last_version: int
    sealed: bool  # closed: nothing is appended any more

    @property
    def dead_bytes(self) -> int:
        """Bytes of values that were overwritten, deleted or have expired."""
        return self.log_bytes - self.live_bytes - self.tombstone_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: merge these neighboring segments."""

    ids: tuple[int, ...]
    drop_only: bool  # nothing in them is needed: remove them unread
    drop_tombstones: bool  # deletes in them may go, if everyone knows of them
    reason: str


def choose(
    segments: Sequence[SegmentInfo],
    *,
    space_target: float,
    segment_bytes: int,
    forgettable_version: int,
) -> Plan | None:
    """Return the most useful plan, or None if nothing is worth doing.

    Args:
        segments: all segments in the order of their versions.
        space_target: log bytes / live bytes above which space is given back.
        segment_bytes: the size of the segments that a job makes.
        forgettable_version: deletes up to this version are known to everyone.
    """
    droppable = deletes_are_droppable(segments, forgettable_version)
    kept = [
        info.live_bytes + (0 if may_go else info.tombstone_bytes)
        for info, may_go in zip(segments, droppable, strict=True)
    ]
    plan = _drop_unneeded(segments, droppable, kept)
    if plan is None and _is_too_large(segments, space_target, segment_bytes):
        plan = _best_window(segments, droppable, forgettable_version, segment_bytes)
    if plan is None:
        plan = _merge_small(segments, droppable, kept, segment_bytes)
    return plan


def deletes_are_droppable(segments: Sequence[SegmentInfo], forgettable_version: int) -> list[bool]:
    """Say for each segment whether a plan that begins with it may drop its deletes."""
    answers = []
    older_are_clean = True
    for info in segments:
        answers.append(older_are_clean and info.last_version <= forgettable_version)
        older_are_clean = older_are_clean and info.dead_bytes <= 0
    return answers


def _drop_unneeded(
    segments: Sequence[SegmentInfo], droppable: Sequence[bool], kept: Sequence[int]
) -> Plan | None:
    """Find neighbors in which nothing is needed."""
    for first, info in enumerate(segments):
        if not info.sealed or kept[first]:
            continue
        end = first + 1
        while end < len(segments) and segments[end].sealed and not kept[end]:
            end += 1
        ids = tuple(info.id for info in segments[first:end])
        return Plan(ids, True, droppable[first], "nothing in them is needed")
    return None


def _is_too_large(segments: Sequence[SegmentInfo], space_target: float, segment_bytes: int) -> bool:
    total = sum(info.log_bytes for info in segments)
    live = sum(info.live_bytes for info in segments)
    return total - live >= garbage_bytes_min(segment_bytes) and total > space_target * live


def garbage_bytes_min(segment_bytes: int) -> int:
    """Return how much garbage makes a job worth while."""
    return min(GARBAGE_BYTES_MIN, segment_bytes // 4)


def _best_window(
    segments: Sequence[SegmentInfo],
    droppable: Sequence[bool],
    forgettable_version: int,
    segment_bytes: int,
) -> Plan | None:
    """Find the neighbors that give back the most bytes for each byte that is copied."""
    best: tuple[float, int, int] | None = None
    for first, info in enumerate(segments):
        read = copied = 0
        for end in range(first, min(first + WINDOW_SEGMENTS_MAX, len(segments))):
            info = segments[end]
            # A delete may go if all that is dead before it is gone, or goes with it.
            sheds = droppable[first] and info.last_version <= forgettable_version
            kept = info.live_bytes + (0 if sheds else info.tombstone_bytes)
            if not info.sealed or (end > first and copied + kept > 2 * segment_bytes):
                break
            read += info.log_bytes
            copied += kept
            # Each job has a cost of its own, so that one with more to do is preferred.
            score = (read - copied) / (copied + segment_bytes / 16)
            enough = read - copied >= RECLAIMED_SHARE_MIN * read > 0
            if enough and (best is None or score > best[0]):
                best = (score, first, end + 1)
    if best is None:
        return None
    _, first, end = best
    ids = tuple(info.id for info in segments[first:end])
    return Plan(ids, False, droppable[first], "dead records take too much space")


def _merge_small(
    segments: Sequence[SegmentInfo],
    droppable: Sequence[bool],
    kept: Sequence[int],
    segment_bytes: int,
) -> Plan | None:
    """Find many small neighbors that make one segment of a fair size."""
    first = 0
    while first < len(segments):
        end, copied = first, 0
        while (
            end < len(segments)
            and segments[end].sealed
            and segments[end].log_bytes < segment_bytes // 4
            and copied + kept[end] <= segment_bytes
        ):
            copied += kept[end]
            end += 1
        if end - first >= SMALL_NEIGHBORS_MIN:
            ids = tuple(info.id for info in segments[first:end])
            return Plan(ids, False, droppable[first], "many small segments in a row")
        first = max(end, first + 1)
    return None


def excess(log_bytes: int, live_bytes: int) -> float:
    """Return how far writers should be slowed down, so that compaction can keep up with them.

    From 0, not at all, to 1, as far as can be: in proportion to what is too much in the log.
    """
    too_much = log_bytes - max(SPACE_LIMIT * live_bytes, live_bytes + SLACK_BYTES)
    return min(max(too_much, 0.0) / (EXCESS_SHARE * live_bytes + SLACK_BYTES), 1.0)
