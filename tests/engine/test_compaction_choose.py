"""What compaction.choose() picks: cases by table, and what holds for any segments at all."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.engine.jobs.compaction import (
    GARBAGE_BYTES_MIN,
    RECLAIMED_SHARE_MIN,
    SMALL_NEIGHBORS_MIN,
    Plan,
    SegmentInfo,
    choose,
)

MIB = 1 << 20
SEGMENT_BYTES = 64 * MIB
NEVER = 1 << 48  # the last version of a segment that is still being written
ALL_KNOWN = NEVER - 1


def segment(number: int, live: float, dead: float = 0, deletes: float = 0) -> SegmentInfo:
    """Return a closed segment; sizes in MiB."""
    total, alive, deleted = (int(size * MIB) for size in (live + dead + deletes, live, deletes))
    return SegmentInfo(number, total, alive, deleted, 100 * number, 100 * number + 99, True)


def opened(info: SegmentInfo) -> SegmentInfo:
    """Return the segment as it is while it is being written."""
    return replace(info, last_version=NEVER, sealed=False)


def plan(segments: Sequence[SegmentInfo], **changes: float) -> Plan | None:
    return choose(
        segments,
        space_target=changes.get("space_target", 1.3),
        segment_bytes=int(changes.get("segment_bytes", SEGMENT_BYTES)),
        forgettable_version=int(changes.get("forgettable_version", ALL_KNOWN)),
    )


def numbers(segments: Sequence[SegmentInfo], **changes: float) -> tuple[int, ...]:
    chosen = plan(segments, **changes)
    return chosen.ids if chosen else ()


@pytest.mark.parametrize(
    ("segments", "ids"),
    [
        pytest.param([], (), id="an empty store"),
        pytest.param([segment(1, 64)], (), id="nothing is dead"),
        pytest.param([opened(segment(1, 0, 64))], (), id="the open segment is left alone"),
        pytest.param(
            [segment(1, 64), opened(segment(2, 1, 63))], (), id="its garbage is not in the others"
        ),
        pytest.param([segment(1, 0.1, 0.9)], (), id="little garbage, whatever the ratio"),
        pytest.param([segment(1, 0.1, 1.0)], (1,), id="enough garbage"),
        pytest.param([segment(1, 50, 14)], (), id="within the target"),
        pytest.param([segment(1, 49, 15)], (1,), id="above the target"),
        pytest.param([segment(1, 64), segment(2, 20, 44)], (2,), id="the one with garbage"),
        pytest.param(
            [segment(1, 44, 20), segment(2, 10, 54), segment(3, 44, 20)], (2,), id="the best one"
        ),
        pytest.param(
            [segment(n, 1, 63) for n in range(1, 6)], (1, 2, 3, 4, 5), id="all that are as good"
        ),
        pytest.param(
            [segment(1, 64), segment(2, 4, 60), segment(3, 4, 60), segment(4, 64)],
            (2, 3),
            id="good neighbors together",
        ),
    ],
)
def test_what_is_compacted_for_space(segments: list[SegmentInfo], ids: tuple[int, ...]) -> None:
    chosen = plan(segments)
    assert (chosen.ids if chosen else ()) == ids
    assert chosen is None or not chosen.drop_only


@pytest.mark.parametrize(
    ("segments", "ids"),
    [
        pytest.param([segment(1, 64), segment(2, 0, 64)], (2,), id="all dead"),
        pytest.param([segment(1, 64), segment(2, 0, 0.01)], (2,), id="however small"),
        pytest.param([segment(1, 1, 63), segment(2, 0, 64)], (2,), id="before any copying"),
        pytest.param(
            [segment(1, 0, 64), segment(2, 0, 64), opened(segment(3, 0, 64))],
            (1, 2),
            id="neighbors at once, but not the open one",
        ),
        pytest.param([segment(1, 64), segment(2, 0, 9, 55)], (2,), id="deletes of nothing"),
        pytest.param(
            [segment(1, 0, 64), segment(2, 64), segment(3, 0, 64)], (1,), id="not across the living"
        ),
    ],
)
def test_what_is_removed_unread(segments: list[SegmentInfo], ids: tuple[int, ...]) -> None:
    chosen = plan(segments)
    assert chosen is not None
    assert (chosen.ids, chosen.drop_only) == (ids, True)


def test_deletes_stay_while_an_older_record_could_come_back() -> None:
    dirty, deletes = segment(1, 60, 1), segment(2, 0, 0, 10)
    assert plan([dirty, deletes]) is None
    assert numbers([segment(1, 60), deletes]) == (2,)


def test_deletes_stay_while_somebody_has_not_heard_of_them() -> None:
    segments = [segment(1, 64), segment(2, 0, 0, 10)]
    assert plan(segments, forgettable_version=299) == Plan(
        (2,), True, True, "nothing in them is needed"
    )
    assert plan(segments, forgettable_version=298) is None


def test_deletes_go_only_with_all_that_is_dead_before_them() -> None:
    oldest, middle, newest = segment(1, 20, 44), segment(2, 10, 24, 30), segment(3, 64)
    whole = plan([oldest, middle, newest])
    assert whole is not None
    assert (whole.ids, whole.drop_tombstones) == ((1, 2), True)
    behind = plan([segment(1, 63, 1), segment(2, 20, 44), newest])
    assert behind is not None
    assert (behind.ids, behind.drop_tombstones) == ((2,), False)


def test_a_job_copies_a_bounded_amount() -> None:
    segments = [segment(n, 40, 24) for n in range(1, 21)]
    ids = numbers(segments)
    assert 0 < 40 * MIB * len(ids) <= 2 * SEGMENT_BYTES


def test_a_job_that_gives_back_too_little_is_not_done() -> None:
    """Here the garbage is in the open segment."""
    segments = [segment(1, 60, 4), segment(2, 60, 4), opened(segment(3, 0, 64))]
    assert plan(segments) is None
    assert numbers([segment(1, 58, 6), *segments[1:]]) == (1,)


def test_the_target_is_an_option() -> None:
    segments = [segment(1, 32, 32)]
    assert numbers(segments, space_target=1.9) == (1,)
    assert plan(segments, space_target=2.1) is None


@pytest.mark.parametrize(
    ("sizes", "ids"),
    [
        pytest.param([1] * 7, (), id="seven"),
        pytest.param([1] * 8, tuple(range(8)), id="eight"),
        pytest.param([1] * 20, tuple(range(20)), id="twenty"),
        pytest.param([1] * 7 + [64] + [1] * 7, (), id="parted by a large one"),
        pytest.param([64] + [1] * 8 + [64], tuple(range(1, 9)), id="between large ones"),
        pytest.param([15] * 20, (), id="four fill a segment"),
        pytest.param([8] * 20, tuple(range(8)), id="as many as fill one segment"),
        pytest.param([16] * 20, (), id="a quarter is not small"),
    ],
)
def test_small_neighbors_are_merged(sizes: list[int], ids: tuple[int, ...]) -> None:
    assert numbers([segment(number, size) for number, size in enumerate(sizes)]) == ids


def test_small_segments_can_have_less_garbage() -> None:
    """Else a store with segments of 4 KiB would never be compacted below a megabyte."""
    small = SegmentInfo(1, 8192, 4096, 0, 1, 99, True)
    assert small.log_bytes < GARBAGE_BYTES_MIN
    assert numbers([small], segment_bytes=4096) == (1,)


# -- what holds for any segments

SMALL_SEGMENT = 1 << 12


@st.composite
def segments_of_any_kind(draw: st.DrawFn) -> list[SegmentInfo]:
    size = st.sampled_from([0, 0, 1, 100, 1000, 2000, 4000, 6000])
    found = []
    version = 0
    for number in range(draw(st.integers(0, 30))):
        live, dead, deletes = draw(size), draw(size), draw(size)
        last = version + draw(st.integers(1, 50))
        found.append(
            SegmentInfo(number, live + dead + deletes, live, deletes, version + 1, last, True)
        )
        version = last
    return [*found[:-1], opened(found[-1])] if found else []


def carry_out(segments: list[SegmentInfo], chosen: Plan, known: int) -> list[SegmentInfo]:
    """Return the segments after a plan was carried out while nobody wrote."""
    start = [info.id for info in segments].index(chosen.ids[0])
    run = segments[start : start + len(chosen.ids)]
    live = sum(info.live_bytes for info in run)
    deletes = sum(
        0 if chosen.drop_tombstones and info.last_version <= known else info.tombstone_bytes
        for info in run
    )
    made = []
    for part in range(-(-(live + deletes) // SMALL_SEGMENT)):
        size = min(SMALL_SEGMENT, live + deletes - part * SMALL_SEGMENT)
        alive = min(size, max(0, live - part * SMALL_SEGMENT))
        number = max(info.id for info in segments) + 1 + part
        made.append(
            SegmentInfo(
                number, size, alive, size - alive, run[0].first_version, run[-1].last_version, True
            )
        )
    return [*segments[:start], *made, *segments[start + len(run) :]]


def check_plan(segments: list[SegmentInfo], chosen: Plan, known: int) -> None:
    ids = [info.id for info in segments]
    start = ids.index(chosen.ids[0])
    run = segments[start : start + len(chosen.ids)]
    assert chosen.ids == tuple(info.id for info in run), "neighbors, in order"
    assert all(info.sealed for info in run)
    if chosen.drop_tombstones:
        dead_before = [info for info in segments[:start] if info.dead_bytes > 0]
        assert dead_before == [] or all(info.tombstone_bytes == 0 for info in run)
    after = carry_out(segments, chosen, known)
    reads = sum(info.log_bytes for info in run)
    gives_back = sum(info.log_bytes for info in segments) - sum(info.log_bytes for info in after)
    if chosen.drop_only:
        assert gives_back == reads
        deleted = [info for info in run if info.tombstone_bytes]
        assert all(info.last_version <= known for info in deleted)
    else:
        merges = len(run) >= SMALL_NEIGHBORS_MIN and len(after) < len(segments)
        assert merges or gives_back >= RECLAIMED_SHARE_MIN * reads > 0


@given(
    segments=segments_of_any_kind(),
    space_target=st.sampled_from([1.05, 1.3, 2.0]),
    known=st.sampled_from([0, 300, ALL_KNOWN]),
)
def test_plans_are_lawful_and_come_to_an_end(
    segments: list[SegmentInfo], space_target: float, known: int
) -> None:
    live = sum(info.live_bytes for info in segments)
    for _ in range(200):
        chosen = plan(
            segments,
            space_target=space_target,
            segment_bytes=SMALL_SEGMENT,
            forgettable_version=known,
        )
        if chosen is None:
            break
        check_plan(segments, chosen, known)
        segments = carry_out(segments, chosen, known)
        assert sum(info.live_bytes for info in segments) == live
    else:
        raise AssertionError("200 plans, and no end")
