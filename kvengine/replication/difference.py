"""Where two stores differ: found by comparing digests of smaller and smaller ranges of keys.

Invariants:

* Each side answers as of one version all the time, else the comparison is refused.
* Little is exchanged: for each range that differs a few digests, for ranges that are equal nothing.
* What is found is exact: single keys, unless there are more than was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from kvengine.engine.following.digesting import MARGIN_S
from kvengine.replication.network.messages import Source
from kvengine.replication.selection import EVERY_KEY, KeyRange

PARTS = 16  # into which a range that differs is cut


class RangeDigest(NamedTuple):
    """What is in a range of keys."""

    keys: int
    sum: int


class Digests(Protocol):
    """Answers for a store as it was at one version: here, or at the far end of a connection."""

    @property
    def version(self) -> int:
        """The version, always the same."""

    def digests(self, ranges: Sequence[KeyRange], moment: int) -> list[RangeDigest]:
        """Return the digest of each range, without what expires up to a moment."""

    def cuts(self, among: KeyRange, parts: int, moment: int) -> list[bytes]:
        """Return about as many keys of a range, in order; the first is the first of the range."""


class View(Source, Digests, Protocol):
    """A source as of one moment, that can be compared with."""


def moment_after(now: float) -> int:
    """Return a second that no clock has reached that is less than a minute ahead."""
    return int(now) + 1 + MARGIN_S


def find_difference(
    one: Digests,
    other: Digests,
    *,
    moment: int,
    ranges: Iterable[KeyRange] = (EVERY_KEY,),
    limit: int = 100,
) -> list[KeyRange]:
    """Return the ranges of keys in which two stores differ; empty if they hold the same.

    A key that only one of them has, or that has another value, metadata, expiry or version, makes
    a range of its own.  When `limit` are found the search ends: there may be more.

    Args:
        one: each range that differs is cut by the keys of the side that has more of them.
        other: the store that is compared with it.
        moment: what expires up to this second is left out on both sides; see moment_after().
        ranges: where to look.
        limit: so many keys are found, then the search ends.
    """
    found: list[KeyRange] = []
    todo = list(ranges)[::-1]
    known = differing(one, other, todo, moment)
    while known and len(found) < limit:
        among, mine, its = known.pop()
        if is_one_key(among):
            found.append(among)
            continue
        side = one if mine.keys >= its.keys else other
        parts = cut(among, side.cuts(among, PARTS, moment))
        known += differing(one, other, parts[::-1], moment)
    return found


def differing(
    one: Digests, other: Digests, ranges: Sequence[KeyRange], moment: int
) -> list[tuple[KeyRange, RangeDigest, RangeDigest]]:
    """Return the ranges whose digests differ, with these."""
    mine, its = one.digests(ranges, moment), other.digests(ranges, moment)
    rows = zip(ranges, mine, its, strict=True)
    return [(among, a, b) for among, a, b in rows if a != b]


def is_one_key(among: KeyRange) -> bool:
    """True if there is room for one key only."""
    return among.end == among.start + b"\0"


def cut(among: KeyRange, keys: list[bytes]) -> list[KeyRange]:
    """Split a range at some of its keys; the last key is a range of its own."""
    edges = [among.start, *keys]
    if keys:
        edges.append(keys[-1] + b"\0")
    ends: list[bytes | None] = [*edges[1:], among.end]
    return [KeyRange(start, end) for start, end in zip(edges, ends, strict=True) if start != end]
