"""``kvengine usage`` shows what was used, and what it would cost."""

import json

import pytest

import kvengine
from kvengine.cli.failures import ExitCode


@pytest.fixture
def used(data):
    with kvengine.open(data) as db:
        kv = db.namespace("a")
        kv.put_many({f"k{number}": "12345" for number in range(20)})
        kv.get("k1")
        kv.list()
        db.namespace("b").put("k", "v")
        return kv.id


def test_people_get_a_table_and_a_bill(used, run):
    text = run("usage").stdout
    assert "reads            1\n" in text
    assert "writes           21\n" in text
    assert "a: 1 reads, 20 writes, 0 deletes, 1 lists, 20 keys" in text
    assert text.splitlines()[-1].split()[-1] == "$5.00"


def test_machines_get_json(used, run):
    fields = json.loads(run("usage", "--json").stdout)
    assert fields["counts"] == {
        "reads": 1,
        "writes": 21,
        "deletes": 0,
        "lists": 1,
        "bytes_in": 101,
        "bytes_out": 5,
        "evictions": 0,
    }
    assert fields["keys"] == 21
    assert fields["bill"]["total"] == "5.00"


def test_one_namespace_has_no_bill(used, run):
    by_title = run("usage", "--namespace", "a", "--json").stdout
    by_id = run("usage", "--namespace-id", used, "--json").stdout
    assert by_title == by_id
    assert json.loads(by_id)["counts"]["writes"] == 20
    assert "bill" not in json.loads(by_id)
    assert run("usage", "--namespace", "none").exit_code == ExitCode.NOT_FOUND


def test_prices_of_ones_own(used, run, tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text('{"base": 0, "included_writes": 1, "million_writes": "1000000"}')
    fields = json.loads(run("usage", "--prices", str(prices), "--json").stdout)
    assert fields["bill"]["total"] == "20.00"
    prices.write_text('{"bass": 0}')
    result = run("usage", "--prices", str(prices))
    assert result.exit_code == ExitCode.USAGE
    assert "unknown price 'bass'" in result.stderr


@pytest.mark.parametrize("month", ["2026-13", "last", "2999-01"])
def test_bad_months(used, run, month):
    result = run("usage", "--month", month)
    assert result.exit_code == ExitCode.USAGE
    assert "month" in result.stderr


def test_it_works_beside_a_writer(data, run):
    with kvengine.open(data, usage_interval_s=0.01) as db:
        db.namespace("a").put("k", "v")
        while not list(db._ledger.rows()):
            pass
        assert json.loads(run("usage", "--json").stdout)["counts"]["writes"] == 1
