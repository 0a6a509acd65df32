"""A broken file of ``kvengine bulk put`` changes nothing, and it is said where it is broken."""

import json

import pytest

HERE = ("--namespace", "here")
PAIRS = [
    {"key": "a", "value": "1"},
    {"key": "é", "value": "gA==", "base64": True, "metadata": {"x": 1}},
    {"key": "c", "value": "3", "expiration": 4_000_000_000},
]


def lines(items: list) -> bytes:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()


BROKEN = [
    (b"", "standard input is empty; expected a JSON array"),
    (b" \n", "standard input is empty; expected a JSON array"),
    (b"[]{", "standard input, column 3: invalid JSON: Extra data"),
    (b'[{"key": "a", "value": "1"},\n oh]', "line 2, column 2: invalid JSON: Expecting value"),
    (lines(PAIRS[:1]) + b'\n{"key": "b",\n', "line 3, column 13: invalid JSON: "),
    (lines(PAIRS[:1]) + b'{"key": "b", "value": "\xff"}', "input, line 2: invalid UTF-8"),
    (b'[{"key": "a", "value": "1", "metadata": NaN}]', "invalid JSON: NaN is not a number"),
    (b"[" * 100_000, "invalid JSON: "),
    (b"{\n}", "line 1, column 2: invalid JSON: "),
    (b'{"pairs": []}', 'line 1: the pair has no "key"'),
    (b'"a"', 'line 1, key \'a\': a pair must be an object with "key" and "value", not a string'),
    (b"[1]", 'index 0: a pair must be an object with "key" and "value", not a number'),
]
BAD_PAIRS = [
    (None, ': a pair must be an object with "key" and "value", not null'),
    (["b", "2"], ': a pair must be an object with "key" and "value", not an array'),
    ({"key": "b"}, ", key 'b': the pair has no \"value\""),
    ({"value": "2"}, ': the pair has no "key"'),
    ({"key": 2, "value": "2"}, ": a key must be a str, not int"),
    ({"key": "b", "value": 2}, ", key 'b': \"value\" must be a string, not a number"),
    ({"key": "b", "value": {}}, ", key 'b': \"value\" must be a string, not an object"),
    ({"key": "b", "value": True}, ", key 'b': \"value\" must be a string, not true"),
    ({"key": "b", "value": "2", "base64": True}, ", key 'b': the value is not base64: "),
    ({"key": "b", "value": "2", "expiration": "9"}, "Please specify an integer, not str."),
    ({"key": "b", "value": "2", "expiration_ttl": -1}, "Invalid expiration_ttl of -1."),
    ({"key": "b", "value": "2", "metadata": "m" * 2000}, "Metadata length of 2002 exceeds"),
    ({"key": "b" * 513, "value": "2"}, "length of 513 exceeds key length limit of 512."),
]


@pytest.mark.parametrize(("contents", "message"), BROKEN, ids=[text for _, text in BROKEN])
def test_a_broken_file_changes_nothing(run, contents: bytes, message: str) -> None:
    result = run("bulk", "put", *HERE, "-", stdin=contents)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("kvengine: standard input")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert run("key", "list", *HERE).exit_code in {1, 3}  # not even the namespace was made


@pytest.mark.parametrize(("pair", "message"), BAD_PAIRS, ids=[text for _, text in BAD_PAIRS])
def test_a_bad_pair_in_the_middle_changes_nothing(run, pair, message: str, tmp_path) -> None:
    run("key", "put", *HERE, "a", "before")
    pairs = [*PAIRS, pair, {"key": "z", "value": "26"}]
    for contents, where in (
        (json.dumps(pairs).encode(), "index 3"),
        (b"\n" + lines(pairs), "line 5"),
    ):
        (tmp_path / "file").write_bytes(contents)
        result = run("bulk", "put", *HERE, str(tmp_path / "file"))
        assert result.exit_code == 2
        assert result.stderr.startswith(f"kvengine: {tmp_path / 'file'}, {where}")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert json.loads(run("key", "list", *HERE).stdout) == [{"name": "a"}]
    assert run("key", "get", *HERE, "a").stdout == "before"
