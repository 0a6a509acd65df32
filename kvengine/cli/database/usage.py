"""``kvengine usage``: the usage of a month, and its price."""

from typing import Any, BinaryIO

import click

import kvengine
from kvengine import Bill, PriceTable, Usage, price
from kvengine.cli.arguments import InputFile, data_option, json_option
from kvengine.cli.formatting import counted, json_line, printable_text, size_text
from kvengine.cli.output import output, write_text
from kvengine.cli.target import target_of, utf8
from kvengine.metering.usage import KINDS

PRICES_BYTES_MAX = 1 << 20


@click.command()
@data_option
@click.option("--namespace", "title", type=utf8, metavar="TITLE", help="Only this namespace.")
@click.option("--namespace-id", type=utf8, metavar="ID", help="Only the namespace with this id.")
@click.option("--month", metavar="YYYY-MM", help="The month, in UTC.  [default: this month]")
@click.option(
    "--prices", type=InputFile(), metavar="FILE", help="A JSON object of prices; see PriceTable."
)
@json_option
def usage(
    data: str,
    title: str | None,
    namespace_id: str | None,
    month: str | None,
    prices: BinaryIO | None,
    as_json: bool,
) -> None:
    """Print the usage of a month, and its price at Workers KV.

    A process that has the database open for writing saves its counts every few seconds, so
    the newest may be missing. Read-only processes save no counts.
    """
    table = _table(prices)
    with kvengine.open(data, read_only=True) as db:
        chosen = None
        if title is not None or namespace_id is not None:
            chosen = target_of(data, title, namespace_id).find(db)
        used = db.usage(chosen, month=month)
    bill = None if chosen is not None else price(used, table)
    if as_json:
        output().write(json_line(_fields(used, bill)))
        return
    for name, value in _rows(used):
        write_text(f"{name:<16} {value}")
    if bill is not None:
        write_text()
        write_text(str(bill))


def _table(prices: BinaryIO | None) -> PriceTable:
    if prices is None:
        return kvengine.SEED_PRICES
    return PriceTable.from_json(prices.read(PRICES_BYTES_MAX))


def _fields(used: Usage, bill: Bill | None) -> dict[str, Any]:
    fields = used.as_json()
    if bill is not None:
        fields["bill"] = {
            "lines": {line.what: str(line.amount) for line in bill.lines},
            "total": str(bill.total),
        }
    return fields


def _rows(used: Usage) -> list[tuple[str, str]]:
    rows = [("month", used.month)]
    for kind in KINDS:
        count = getattr(used.counts, kind)
        rows.append((kind.replace("_", " "), size_text(count) if "bytes" in kind else f"{count:,}"))
    rows += [("keys", f"{used.keys:,}"), ("stored", size_text(used.bytes))]
    for one in used.by_namespace:
        name = "(deleted)" if one.title is None else printable_text(one.title)
        operations = ", ".join(f"{getattr(one.counts, kind):,} {kind}" for kind in KINDS[:4])
        rows.append(
            ("", f"{name}: {operations}, {counted(one.keys, 'key')}, {size_text(one.bytes)}")
        )
    return rows
