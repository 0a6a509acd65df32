"""Values go in and come out byte for byte; keys are whatever bytes the shell passes."""

import json
import os
import time
from pathlib import Path

import pytest

import kvengine

EVERY_BYTE = bytes(range(256)) * 3 + b"\r\n\n"


def test_bytes_of_standard_input_come_back_on_standard_output(process) -> None:
    assert process("put", "key", "-", stdin=EVERY_BYTE).returncode == 0
    got = process("get", "key")
    assert (got.returncode, got.stdout, got.stderr) == (0, EVERY_BYTE, b"")


def test_a_value_comes_from_the_argument_or_a_file(run, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(EVERY_BYTE)
    assert run("put", "a", "text").stdout_bytes == b""
    assert run("put", "b", "--path", str(tmp_path / "value")).exit_code == 0
    assert run("get", "a").stdout_bytes == b"text"
    assert run("get", "b").stdout_bytes == EVERY_BYTE


def test_an_empty_value_is_a_value(run) -> None:
    assert run("put", "key", "").exit_code == 0
    assert (run("get", "key").exit_code, run("get", "key").stdout_bytes) == (0, b"")


@pytest.mark.parametrize(
    "arguments", [("put", "key"), ("put", "key", "value", "--path", "/dev/null")]
)
def test_exactly_one_source_of_the_value_is_needed(run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_an_endless_value_is_refused(run) -> None:
    result = run("put", "key", "--path", "/dev/zero")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert run("get", "key").exit_code == 3


def test_an_absent_key_gives_exit_code_3_and_no_output(process) -> None:
    process("put", "other", "value")
    got = process("get", "key")
    assert (got.returncode, got.stdout) == (3, b"")
    assert got.stderr == b"kvengine: key b'key' is not in the store\n"


@pytest.mark.parametrize(
    "key", [b"-key", b"--json", b"\xff\xfe", b"line\nbreak", b"\xc3\xa9", b"-"]
)
def test_any_bytes_can_be_a_key(process, key: bytes) -> None:
    assert process("put", "--", key, "value").returncode == 0
    assert process("get", "--", key).stdout == b"value"
    assert process("get", "--hex", key.hex()).stdout == b"value"
    assert process("list", "-0").stdout == key + b"\0"


def test_a_key_is_the_same_in_every_locale(process, environment: dict[str, str]) -> None:
    plain = {**environment, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert process("put", "é", "value", env=plain).returncode == 0
    assert process("list", "--hex").stdout.strip() == "é".encode().hex().encode()
    assert process("get", "é", "--json", env=plain).returncode == 0


def test_a_key_in_hex_may_hold_nul(run) -> None:
    assert run("put", "--hex", "00ff", "value").exit_code == 0
    assert run("list", "--hex").stdout == "00ff\n"


@pytest.mark.parametrize("key", ["0", "zz", "0x00"])
def test_what_is_not_hex_is_a_usage_error(run, key: str) -> None:
    result = run("put", "--hex", key, "value")
    assert result.exit_code == 2
    assert "hex" in result.stderr


@pytest.mark.parametrize("key", ["", "k" * 1025])
def test_a_key_outside_the_limits_is_a_usage_error(run, key: str) -> None:
    run("put", "other", "value")
    result = run("put", key, "value")
    assert (result.exit_code, result.stderr[:10]) == (2, "kvengine: ")
    for name in ("get", "delete"):  # such a key is absent from every store
        assert run(name, key).exit_code in {2, 3}
    assert run("list").stdout == "other\n"


def test_json_of_text(run) -> None:
    put = run("put", "key", "värde", "--metadata", "{}", "--expiration", "4e9", "--json")
    version = json.loads(put.stdout)["version"]
    assert json.loads(run("get", "key", "--json").stdout) == {
        "key": "key",
        "value": "värde",
        "metadata": "{}",
        "expires_at": 4e9,
        "version": version,
    }


def test_json_of_bytes_that_are_not_text(run) -> None:
    run("put", "--hex", "ff", "-", stdin=b"\x80\x00")
    got = json.loads(run("get", "--hex", "ff", "--json").stdout)
    assert (got["key_base64"], got["value_base64"], got["metadata"]) == ("/w==", "gAA=", "")
    assert got["expires_at"] is None
    assert not {"key", "value"} & got.keys()


def test_ttl_counts_from_now(run) -> None:
    before = time.time()
    assert run("put", "key", "value", "--ttl", "1000", "--expiration", "1").exit_code == 0
    expires_at = json.loads(run("get", "key", "--json").stdout)["expires_at"]
    assert before + 999 <= expires_at <= time.time() + 1001


@pytest.mark.parametrize(
    "options",
    [
        ("--ttl", "0"),
        ("--ttl", "-1"),
        ("--ttl", "nan"),
        ("--ttl", "inf"),
        ("--ttl", "1h30"),
        ("--expiration", "1"),
        ("--expiration", "nan"),
        ("--if-version", "-1"),
        ("--durability", "sometimes"),
        ("--metadata", "m" * 1025),
    ],
)
def test_options_that_are_not_acceptable(run, options: tuple[str, ...]) -> None:
    run("put", "key", "before")
    assert run("put", "key", "value", *options).exit_code == 2
    assert run("get", "key").stdout == "before"


@pytest.mark.parametrize("durability", ["group", "sync", "interval", "os"])
def test_each_durability_is_accepted(run, durability: str) -> None:
    assert run("put", "key", "value", "--durability", durability).exit_code == 0
    assert run("get", "key").stdout == "value"
    assert run("delete", "key", "--durability", durability).exit_code == 0


@pytest.mark.parametrize("name", ["put", "delete"])
def test_the_durability_reaches_the_store(run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seen = []

    def record(call):
        def recording(self, *arguments, **options):
            seen.append(options["durability"])
            return call(self, *arguments, **options)

        return recording

    class Recording(kvengine.Store):
        put = record(kvengine.Store.put)
        delete = record(kvengine.Store.delete)

    run("put", "key", "value")
    monkeypatch.setattr("kvengine.cli.arguments.Store", Recording)
    run(name, "key", *(["value"] if name == "put" else []), "--durability", "sync")
    run(name, "key", *(["value"] if name == "put" else []))
    assert seen == ["sync", None]


def test_if_version_writes_only_over_that_version(run) -> None:
    first = json.loads(run("put", "key", "1", "--if-version", "0", "--json").stdout)["version"]
    refused = run("put", "key", "2", "--if-version", "0")
    assert (refused.exit_code, run("get", "key").stdout) == (4, "1")
    assert run("put", "key", "2", "--if-version", str(first)).exit_code == 0
    assert run("delete", "key", "--if-version", str(first)).exit_code == 4
    assert run("get", "key").stdout == "2"


def test_delete(run) -> None:
    run("put", "key", "value")
    deleted = run("delete", "key", "--json")
    assert (deleted.exit_code, json.loads(deleted.stdout)) == (0, {"version": 2})
    assert run("get", "key").exit_code == 3
    assert run("delete", "key").exit_code == 3
    assert run("delete", "--force", "key").exit_code == 0


def test_only_put_makes_a_store(run, data: str) -> None:
    for arguments in (("delete", "key"), ("compact",), ("get", "key"), ("stats",)):
        assert run(*arguments).exit_code == 1
        assert not os.path.exists(data)


def test_put_makes_the_folders_above_the_store(run, tmp_path: Path) -> None:
    folder = str(tmp_path / "a" / "b" / "c")
    assert run("put", "--data", folder, "key", "value").exit_code == 0
    assert run("get", "--data", folder, "key").stdout == "value"
