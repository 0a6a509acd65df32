"""``kvengine key``: values byte for byte, lists in wrangler's JSON, readers beside a writer."""

import json
import time
from pathlib import Path

import pytest

import kvengine

EVERY_BYTE = bytes(range(256)) * 3 + b"\r\n\n"
HERE = ("--namespace", "here")


def listed(run, *arguments: str) -> list[dict]:
    return json.loads(run("key", "list", *HERE, *arguments).stdout)


# -- put and get


def test_bytes_of_standard_input_come_back_on_standard_output(process) -> None:
    for arguments in (("-",), ("--path", "-")):
        assert process("key", "put", *HERE, "key", *arguments, stdin=EVERY_BYTE).returncode == 0
        got = process("key", "get", *HERE, "key")
        assert (got.returncode, got.stdout, got.stderr) == (0, EVERY_BYTE, b"")


def test_a_value_comes_from_the_argument_or_a_file(process, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(EVERY_BYTE)
    assert process("key", "put", *HERE, "a", "té").stdout == b""
    assert process("key", "put", *HERE, "b", "--path", str(tmp_path / "value")).returncode == 0
    assert process("key", "put", *HERE, b"c", b"\xff").returncode == 0
    assert process("key", "get", *HERE, "a").stdout == "té".encode()
    assert process("key", "get", *HERE, "b").stdout == EVERY_BYTE
    assert process("key", "get", *HERE, "c").stdout == b"\xff"


def test_text_ends_with_a_line_break(run) -> None:
    run("key", "put", *HERE, "key", "-", stdin=b"t\xff")
    assert run("key", "get", *HERE, "key", "--text").stdout_bytes == "t\ufffd\n".encode()


def test_an_empty_value_is_a_value(run) -> None:
    assert run("key", "put", *HERE, "key", "").exit_code == 0
    got = run("key", "get", *HERE, "key")
    assert (got.exit_code, got.stdout_bytes) == (0, b"")


def test_an_absent_key_gives_exit_code_3(run) -> None:
    run("key", "put", *HERE, "other", "value")
    got = run("key", "get", *HERE, "key")
    assert (got.exit_code, got.stdout) == (3, "")
    assert got.stderr == "kvengine: key 'key' is not in the store\n"


def test_a_key_is_utf8_in_every_locale(process, environment: dict[str, str]) -> None:
    plain = {**environment, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    title = ("--namespace", "né")
    assert process("key", "put", *title, "é", "ü", "--metadata", '"ö"', env=plain).returncode == 0
    assert process("key", "get", *title, "é").stdout == "ü".encode()
    assert json.loads(process("key", "list", *title).stdout) == [{"name": "é", "metadata": "ö"}]
    for arguments in ((b"\xff", b"value"), (b"key", b"value", b"--metadata", b'"\xff"')):
        refused = process("key", "put", *title, *arguments)
        assert (refused.returncode, b"is not UTF-8" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("key",),
        ("key", "value", "--path", "/dev/null"),
        ("", "value"),
        (".", "value"),
        ("k" * 513, "value"),
        ("key", "--path", "/dev/zero"),
        ("key", "--path", "/nowhere"),
        ("key", "value", "--ttl", "0"),
        ("key", "value", "--ttl", "1.5"),
        ("key", "value", "--expiration", "1"),
        ("key", "value", "--metadata", "{a}"),
        ("key", "value", "--metadata", "NaN"),
        ("key", "value", "--metadata", "[" * 100_000),
        ("key", "value", "--metadata", json.dumps("m" * 1023)),
    ],
)
def test_what_is_not_acceptable_leaves_nothing_behind(
    run, data: str, arguments: tuple[str, ...]
) -> None:
    assert run("key", "put", *HERE, *arguments).exit_code == 2
    if Path(data).exists():
        assert run("namespace", "list").stdout == "[]\n"
    run("key", "put", *HERE, "key", "before")
    assert run("key", "put", *HERE, *arguments).exit_code == 2
    assert run("key", "get", *HERE, "key").stdout == "before"
    assert listed(run) == [{"name": "key"}]


def test_the_options_of_put(run) -> None:
    before = int(time.time())
    run("key", "put", *HERE, "a", "value", "--ttl", "1000", "--metadata", '{"x": [1, null]}')
    run("key", "put", *HERE, "b", "value", "--expiration", "4000000000")
    run("key", "put", *HERE, "c", "value", "--expiration", "1", "--ttl", "1000")  # --ttl counts
    a, b, c = listed(run)
    for info in (a, c):
        assert before + 1000 <= info.pop("expiration") < time.time() + 1001
    assert (a, c) == ({"name": "a", "metadata": {"x": [1, None]}}, {"name": "c"})
    assert b == {"name": "b", "expiration": 4_000_000_000}


# -- which namespace


def test_put_makes_the_namespace_and_says_so(run) -> None:
    made = run("key", "put", *HERE, "key", "1")
    (info,) = json.loads(run("namespace", "list").stdout)
    assert made.stderr == f"kvengine: created namespace 'here' with id {info['id']}\n"
    assert run("key", "put", "--binding", "here", "key", "2").stderr == ""
    for name in ("--namespace-id", "--namespace"):
        assert run("key", "get", name, info["id"], "key").stdout == "2"


@pytest.mark.parametrize(
    "arguments", [("get", "key"), ("list",), ("delete", "key"), ("delete", "--prefix", "k")]
)
def test_other_commands_do_not_make_a_namespace(run, arguments: tuple[str, ...]) -> None:
    run("namespace", "create", "other")
    result = run("key", *arguments, *HERE)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "kvengine: namespace 'here' does not exist\n"
    unknown = "0" * 32
    assert run("key", "put", "--namespace-id", unknown, "key", "value").exit_code == 3
    assert [info["title"] for info in json.loads(run("namespace", "list").stdout)] == ["other"]


@pytest.mark.parametrize("arguments", [("get", "key"), ("list",), ("delete", "key")])
def test_other_commands_do_not_make_a_database(run, data: str, arguments: tuple[str, ...]) -> None:
    assert run("key", *arguments, *HERE).exit_code == 1
    assert run("key", "put", "--namespace-id", "0" * 32, "key", "value").exit_code == 1
    assert not Path(data).exists()


def test_exactly_one_namespace_is_named(run) -> None:
    run("key", "put", *HERE, "key", "value")
    for options in ((), (*HERE, "--namespace-id", "0" * 32)):
        result = run("key", "get", "key", *options)
        assert result.exit_code == 2
        assert "give exactly one of --namespace and --namespace-id" in result.stderr


# -- list


def test_a_list_has_all_pages_in_the_order_of_bytes(run, data: str) -> None:
    names = [f"{number:04}" for number in range(2500)] + ["é", "\uffff", "\U00010000"]
    with kvengine.open(data) as db:
        db.namespace("here").put_many(dict.fromkeys(reversed(names), "value"))
        db.namespace("there").put("key", "value")
    assert listed(run) == [{"name": name} for name in names]
    assert listed(run, "--prefix", "00") == [{"name": name} for name in names[:100]]
    assert listed(run, "--prefix", "é") == [{"name": "é"}]


def test_a_list_is_in_the_layout_of_wrangler(run) -> None:
    run("namespace", "create", "here")
    assert run("key", "list", *HERE).stdout == "[]\n"
    run("key", "put", *HERE, "a\n\x1b", "value", "--metadata", '{"x":[],"y":[1]}')
    assert run("key", "list", *HERE).stdout == (
        '[\n  {\n    "name": "a\\n\\u001b",\n    "metadata": {\n      "x": [],\n'
        '      "y": [\n        1\n      ]\n    }\n  }\n]\n'
    )


# -- delete


def test_delete(run) -> None:
    run("key", "put", *HERE, "a", "value")
    for _ in range(2):  # an absent key is no failure
        deleted = run("key", "delete", *HERE, "a")
        assert (deleted.exit_code, deleted.output) == (0, "")
    assert listed(run) == []


def test_delete_a_prefix(run) -> None:
    for key in ("a/1", "a/2", "b"):
        run("key", "put", *HERE, key, "value")
    dry = run("key", "delete", *HERE, "--prefix", "a/", "--dry-run")
    assert (dry.exit_code, dry.stderr, len(listed(run))) == (
        0,
        "kvengine: would delete 2 keys\n",
        3,
    )
    assert run("key", "delete", *HERE, "--prefix", "a/", "--json").stdout == (
        '{"keys": 2, "dry_run": false}\n'
    )
    assert listed(run) == [{"name": "b"}]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--prefix", ""),
        ("a", "--prefix", "a"),
        ("a", "--all"),
        ("--all", "--prefix", "a"),
        ("a", "--dry-run"),
    ],
)
def test_it_must_be_clear_what_is_to_be_deleted(run, arguments: tuple[str, ...]) -> None:
    run("key", "put", *HERE, "a", "value")
    assert run("key", "delete", *HERE, *arguments).exit_code == 2
    assert listed(run) == [{"name": "a"}]


@pytest.mark.parametrize(
    "arguments", [("--all",), ("--prefix", "", "-y"), ("--prefix", "", "--all")]
)
def test_all_keys_may_be_deleted(run, arguments: tuple[str, ...]) -> None:
    run("key", "put", *HERE, "a", "value")
    assert run("key", "delete", *HERE, *arguments).stderr == "kvengine: deleted 1 key\n"
    assert listed(run) == []


# -- beside another process


def test_readers_work_beside_a_writer(process, database_holder_pid: int) -> None:
    held = ("--namespace", "held")
    assert process("key", "get", *held, "key").stdout == b"value"
    assert json.loads(process("key", "list", *held).stdout) == [{"name": "key", "metadata": [1]}]
    assert json.loads(process("namespace", "list").stdout)[0]["title"] == "held"
    found = process("bulk", "get", *held, "-", stdin=b'["key", "absent"]').stdout
    assert json.loads(found) == {"key": "value", "absent": None}
    assert process("key", "delete", *held, "--all", "--dry-run").returncode == 0


def test_who_is_kept_out_is_told_by_which_process(process, exclusive_database_pid: int) -> None:
    held = ("--namespace", "held")
    for arguments in (
        ("key", "put", *held, "key", "mine"),
        ("key", "delete", *held, "key"),
        ("namespace", "create", "mine"),
        ("namespace", "delete", "held", "-y"),
        ("bulk", "put", *held, "-"),
        ("put", "key", "mine"),
    ):
        result = process(*arguments, stdin=b'[{"key": "key", "value": "mine"}]')
        assert (result.returncode, result.stdout) == (5, b"")
        assert str(exclusive_database_pid).encode() in result.stderr
    assert process("key", "get", *held, "key").stdout == b"value"
