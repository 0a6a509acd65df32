"""What a month costs, by a table of prices.

Invariants:

* Amounts are exact decimals.  Parts of a million, and of a gigabyte, are billed as parts; only the
  total is rounded, to cents, half up.
* What is included is not billed, and not carried over to another month.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from kvengine.errors import InvalidRequest
from kvengine.metering.usage import Usage

MILLION = 1_000_000
CENT = Decimal("0.01")
OPERATIONS = ("reads", "writes", "deletes", "lists")


def _exact(name: str, value: object) -> Decimal:
    if isinstance(value, (Decimal, int, str)) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite() and number >= 0:
            return number
    raise InvalidRequest(
        f"the price {name} must be a number of at least 0, as a Decimal, an int or a text, not "
        f"{value!r}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Prices in dollars: per month, per million operations, per gigabyte and month.

    Each may be a Decimal, an int or a str; a float is refused, because it is not exact.

    Raises:
        InvalidRequest: a price is not a number of at least 0.
    """

    base: Decimal = Decimal(5)
    included_reads: Decimal = Decimal(10 * MILLION)
    included_writes: Decimal = Decimal(MILLION)
    included_deletes: Decimal = Decimal(MILLION)
    included_lists: Decimal = Decimal(MILLION)
    included_gigabytes: Decimal = Decimal(1)
    million_reads: Decimal = Decimal("0.50")
    million_writes: Decimal = Decimal("5.00")
    million_deletes: Decimal = Decimal("5.00")
    million_lists: Decimal = Decimal("5.00")
    gigabyte: Decimal = Decimal("0.50")

    def __post_init__(self) -> None:
        for price in fields(self):
            object.__setattr__(self, price.name, _exact(price.name, getattr(self, price.name)))

    @classmethod
    def of(cls, prices: Mapping[str, Any]) -> PriceTable:
        """Return the table for a mapping; missing prices are those of SEED_PRICES.

        Raises:
            InvalidRequest: it has an unknown name, or a price is not a number.
        """
        known = [price.name for price in fields(cls)]
        if not isinstance(prices, Mapping):
            raise InvalidRequest(f"prices must be a mapping, not {type(prices).__name__}")
        for name in prices:
            if name not in known:
                raise InvalidRequest(f"unknown price {name!r}; expected one of {', '.join(known)}")
        return cls(**prices)

    @classmethod
    def from_json(cls, text: str | bytes) -> PriceTable:
        """Return the table of a JSON object.

        Raises:
            InvalidRequest: it is not JSON, or not a table of prices.
        """
        try:
            found = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        except ValueError as error:
            raise InvalidRequest(f"invalid JSON in the prices: {error}") from None
        return cls.of(found)


SEED_PRICES = PriceTable()


@dataclass(frozen=True, slots=True)
class BillLine:
    """One line of a bill; amounts in dollars."""

    what: str
    used: Decimal
    included: Decimal
    billed: Decimal
    price: Decimal  # of a million, or of a gigabyte
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """What a month costs."""

    month: str
    lines: tuple[BillLine, ...]
    total: Decimal  # rounded to cents

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("", "used", "included", "billed", "price", "amount")]
        for line in self.lines:
            figures = [f"{figure:,f}" for figure in (line.used, line.included, line.billed)]
            rows.append((line.what, *figures, f"${line.price:,f}", f"${line.amount:,.6f}"))
        rows.append((f"total {self.month}", "", "", "", "", f"${self.total:,f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def price(usage: Usage, table: PriceTable = SEED_PRICES) -> Bill:
    """Return the price of a month.

    Args:
        usage: the result of Database.usage() for the whole database.
        table: the prices; by default those of Workers KV on the paid plan.
    """
    lines = [BillLine("base", Decimal(1), Decimal(0), Decimal(1), table.base, table.base)]
    for kind in OPERATIONS:
        used = Decimal(getattr(usage.counts, kind))
        lines.append(
            _line(
                kind,
                used,
                getattr(table, f"included_{kind}"),
                getattr(table, f"million_{kind}"),
                MILLION,
            )
        )
    stored = usage.gigabyte_months
    lines.append(_line("gigabytes", stored, table.included_gigabytes, table.gigabyte, 1))
    total = sum((line.amount for line in lines), Decimal(0))
    return Bill(usage.month, tuple(lines), total.quantize(CENT, ROUND_HALF_UP))


def _line(what: str, used: Decimal, included: Decimal, unit_price: Decimal, unit: int) -> BillLine:
    billed = max(used - included, Decimal(0))
    return BillLine(what, used, included, billed, unit_price, billed * unit_price / unit)
