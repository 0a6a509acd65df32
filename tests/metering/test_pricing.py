"""Bills are exact: worked out by hand, at and around what is included, and by property."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import SEED_PRICES, InvalidRequest, PriceTable, Usage, price
from kvengine.metering.usage import Counts

MILLION = 1_000_000


def used(reads=0, writes=0, deletes=0, lists=0, gigabytes="0"):
    counts = Counts(reads, writes, deletes, lists)
    return Usage("2026-11", counts, 0, 0, Decimal(gigabytes))


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        (used(), "5.00"),
        (used(10 * MILLION, MILLION, MILLION, MILLION, "1"), "5.00"),
        (used(reads=10 * MILLION + 1), "5.00"),  # half of a millionth of a dollar
        (used(reads=11 * MILLION), "5.50"),
        (used(writes=2 * MILLION), "10.00"),
        (used(deletes=2 * MILLION), "10.00"),
        (used(lists=1_500_000), "7.50"),
        (used(gigabytes="3"), "6.00"),
        (used(gigabytes="1.01"), "5.01"),  # 0.005, half up
        (used(100 * MILLION, 3 * MILLION, 2 * MILLION, MILLION, "21"), "75.00"),
    ],
)
def test_what_workers_kv_takes(usage, total):
    assert price(usage).total == Decimal(total)


def test_a_bill_shows_how_it_came_about():
    bill = price(used(writes=1_250_000, gigabytes="2.5"))
    lines = {line.what: line for line in bill.lines}
    assert lines["writes"].billed == 250_000
    assert lines["writes"].amount == Decimal("1.25")
    assert lines["gigabytes"].amount == Decimal("0.75")
    text = str(bill)
    assert "1,250,000" in text
    assert text.splitlines()[-1].split() == ["total", "2026-11", "$7.00"]


OPERATIONS = st.integers(0, 10**10)


@given(OPERATIONS, OPERATIONS, OPERATIONS, OPERATIONS, st.decimals(0, 10**6, places=9))
def test_the_total_is_the_sum_of_the_lines_and_never_falls(reads, writes, deletes, lists, stored):
    bill = price(used(reads, writes, deletes, lists, stored))
    assert abs(sum(line.amount for line in bill.lines) - bill.total) <= Decimal("0.005")
    more = price(used(reads + MILLION, writes, deletes + 1, lists, stored))
    assert more.total >= bill.total >= SEED_PRICES.base


def test_a_table_of_ones_own():
    table = PriceTable.of({"base": 0, "included_reads": "0", "million_reads": "0.35"})
    assert price(used(reads=2 * MILLION), table).total == Decimal("0.70")
    same = PriceTable.from_json('{"base": 0, "included_reads": 0, "million_reads": 0.35}')
    assert same == table


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"milion_reads": 1}, "unknown price 'milion_reads'"),
        ({"base": -1}, "of at least 0"),
        ({"base": "a"}, "of at least 0"),
        ({"base": 0.1}, "of at least 0"),
        ({"base": True}, "of at least 0"),
        ({"base": "NaN"}, "of at least 0"),
        ({"base": "Infinity"}, "of at least 0"),
        ([1], "must be a mapping"),
    ],
)
def test_bad_tables_are_refused(prices, message):
    with pytest.raises(InvalidRequest, match=message):
        PriceTable.of(prices)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"base": "x"}', '{"base": null}'])
def test_bad_files_are_refused(text):
    with pytest.raises(InvalidRequest):
        PriceTable.from_json(text)
