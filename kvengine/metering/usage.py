"""What was used, as figures: of a day, of a namespace, of a month.  Plain data; nothing here acts.

Counted as Workers KV bills it (developers.cloudflare.com/kv/platform/pricing): each key that is
asked for is a read, found or not; each pair of a bulk write is a write; each page of a list is a
list; an expiry is nothing, and so is the eviction of a key from a bounded namespace.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from typing import Any, Protocol

GIGABYTE = 10**9  # as Cloudflare counts: not 2**30


class Meter(Protocol):
    """What counts what is used of a namespace, in one process."""

    reads: int
    writes: int
    deletes: int
    lists: int
    bytes_in: int
    bytes_out: int
    evictions: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Operations, bytes of values that came in and went out, and keys that bounds removed."""

    reads: int = 0
    writes: int = 0
    deletes: int = 0
    lists: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    evictions: int = 0

    @classmethod
    def of(cls, meter: Meter) -> Counts:
        """Return what a meter shows now."""
        return cls(*(getattr(meter, name) for name in KINDS))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in KINDS))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(other, name) for name in KINDS))

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in KINDS)


KINDS = tuple(kind.name for kind in fields(Counts))


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What was used on a day (UTC), and what was stored at its end."""

    date: str  # 2026-11-23
    counts: Counts
    keys: int
    bytes: int  # of keys, values and metadata


@dataclass(frozen=True, slots=True)
class NamespaceUsage:
    """What was used of a namespace in a month."""

    namespace_id: str | None  # None: it was deleted; what was used stays
    title: str | None
    counts: Counts
    keys: int  # now
    bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of a month, and what is stored."""

    month: str  # 2026-11
    counts: Counts
    keys: int  # now
    bytes: int  # of keys, values and metadata, now
    gigabyte_months: Decimal  # mean of what was stored at the end of the days of the month so far
    by_day: list[DayUsage] = field(default_factory=list)
    by_namespace: list[NamespaceUsage] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {**asdict(self), "gigabyte_months": float(self.gigabyte_months)}
