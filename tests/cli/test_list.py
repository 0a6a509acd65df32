"""Keys are printed in byte order, in a form that fits who reads them."""

import json
from collections.abc import Sequence

import pytest

KEYS = ("a", "a/1", "a/2", "b", "é")


@pytest.fixture(autouse=True)
def _filled(run) -> None:
    for key in reversed(KEYS):
        run("put", key, key.upper())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), KEYS),
        (("--prefix", "a"), KEYS[:3]),
        (("--prefix", "a", "--start-after", "a"), KEYS[1:3]),
        (("--start-after", "a/1", "--limit", "2"), KEYS[2:4]),
        (("--reverse",), KEYS[::-1]),
        (("--reverse", "--start-after", "b", "--limit", "2"), KEYS[2:0:-1]),
        (("--prefix", "nothing"), ()),
        (("--limit", "100"), KEYS),
    ],
)
def test_which_keys(run, options: tuple[str, ...], expected: Sequence[str]) -> None:
    assert tuple(run("list", *options).stdout.splitlines()) == tuple(expected)


@pytest.mark.parametrize("limit", ["-1", "1e3", "ten", ""])
def test_a_limit_is_a_natural_number(run, limit: str) -> None:
    result = run("list", "--limit", limit)
    assert (result.exit_code, result.stdout) == (2, "")


def test_values_stand_beside_keys(run) -> None:
    assert run("list", "--values", "--limit", "2").stdout == "a\tA\na/1\tA/1\n"
    assert run("list", "--values", "--limit", "1", "-0").stdout_bytes == b"a\0A\0"


def test_json_is_one_object_a_line(run) -> None:
    lines = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [line["key"] for line in lines] == list(KEYS)
    assert lines[0] == {"key": "a", "metadata": "", "expires_at": None, "version": 5}
    with_values = run("list", "--json", "--values", "--prefix", "b").stdout
    assert json.loads(with_values)["value"] == "B"


def test_hex_goes_both_ways(run) -> None:
    result = run("list", "--hex", "--prefix", b"a".hex(), "--start-after", b"a/1".hex())
    assert result.stdout == b"a/2".hex() + "\n"


def test_keys_pass_unchanged_through_a_pipe(process) -> None:
    process("put", b"\x1b[31m\xff", "value")
    assert process("list", "--limit", "1").stdout == b"\x1b[31m\xff\n"
