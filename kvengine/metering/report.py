"""From rows of a ledger to what was used in a month.

Invariants:

* What is counted and not yet written down is included.
* A day without a row stores what the day before it did: without an operation nothing changes, but
  for what expired.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from kvengine.entry import GroupSize
from kvengine.errors import InvalidRequest
from kvengine.metering.ledger import Ledger, Row
from kvengine.metering.usage import GIGABYTE, Counts, DayUsage, NamespaceUsage, Usage

A_BYTE = Decimal(1) / GIGABYTE
EPOCH = date(1970, 1, 1)
MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class Named(NamedTuple):
    """A namespace as the report shows it."""

    namespace_id: str | None
    title: str | None
    size: GroupSize  # now


def month_days(month: str | None, today: int) -> tuple[str, range]:
    """Return a month and its days since 1970, up to today.

    Raises:
        InvalidRequest: it is not a month, or begins in the future.
    """
    now = EPOCH + timedelta(days=today)
    if month is None:
        month = f"{now:%Y-%m}"
    if not isinstance(month, str) or not MONTH.fullmatch(month):
        raise InvalidRequest(f"a month must look like '2026-11', not {month!r}")
    first = datetime.strptime(month + "-01", "%Y-%m-%d").replace(tzinfo=UTC).date()
    if first > now:
        raise InvalidRequest(f"the month {month} is in the future; today is {now}")
    behind = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    start, end = (first - EPOCH).days, (behind - EPOCH).days
    return month, range(start, min(end, today + 1))


def usage(ledger: Ledger, month: str | None, namespaces: dict[int, Named]) -> Usage:
    """Return what was used of namespaces in a month; None: the present one."""
    today = ledger.today()
    name, days = month_days(month, today)
    rows: dict[int, dict[int, Row]] = defaultdict(dict)
    for number, day, row in ledger.rows():
        if number in namespaces and day < days.stop:
            rows[number][day] = row
    by_namespace, total_days = [], [_Day() for _ in days]
    for number, named in namespaces.items():
        pending = ledger.pending(number) if today in days else Counts()
        of_days = list(_days(rows[number], days, today, pending, named.size))
        counts = sum((day.counts for day in of_days), Counts())
        if counts or named.size.keys:
            by_namespace.append(
                NamespaceUsage(named.namespace_id, named.title, counts, *named.size)
            )
        total_days = [one.plus(other) for one, other in zip(total_days, of_days, strict=True)]
    stored = [day.bytes for day in total_days]
    return Usage(
        month=name,
        counts=sum((day.counts for day in total_days), Counts()),
        keys=sum(named.size.keys for named in namespaces.values()),
        bytes=sum(named.size.bytes for named in namespaces.values()),
        gigabyte_months=(Decimal(sum(stored)) / len(stored) / GIGABYTE).quantize(A_BYTE),
        by_day=[
            DayUsage(str(EPOCH + timedelta(days=number)), day.counts, day.keys, day.bytes)
            for number, day in zip(days, total_days, strict=True)
        ],
        by_namespace=by_namespace,
    )


class _Day(NamedTuple):
    counts: Counts = Counts()
    keys: int = 0
    bytes: int = 0

    def plus(self, other: _Day) -> _Day:
        return _Day(self.counts + other.counts, self.keys + other.keys, self.bytes + other.bytes)


def _days(
    rows: dict[int, Row], days: range, today: int, pending: Counts, size: GroupSize
) -> Iterable[_Day]:
    """Yield what one namespace used on each day of a month."""
    earlier = [day for day in rows if day < days.start]
    last = rows[max(earlier)] if earlier else Row(Counts(), 0, 0)
    for day in days:
        row = rows.get(day)
        counts = row.counts if row is not None else Counts()
        last = row if row is not None else last
        if day == today:
            yield _Day(counts + pending, size.keys, size.bytes)
        else:
            yield _Day(counts, last.keys, last.stored_bytes)
