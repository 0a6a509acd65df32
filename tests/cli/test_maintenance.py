"""stats, verify, compact, backup, salvage and tail: what they print, and what they leave alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import Store

VALUE = "a value that is easy to find in a file"


@pytest.fixture
def filled(run, data: str) -> str:
    """The folder of a store with three keys, one of them written twice."""
    for key, value in (("a", "old"), ("b", VALUE), ("c", "3"), ("a", "new")):
        assert run("put", key, value).exit_code == 0
    return data


def test_stats(run, filled: str) -> None:
    figures = json.loads(run("stats", "--json").stdout)
    assert (figures["keys"], figures["version"], figures["path"]) == (3, 4, filled)
    assert figures["disk_bytes"] > 0
    assert figures["read_only"] is True
    text = run("stats", filled)
    assert text.exit_code == 0
    assert f"folder                 {filled}\nkeys                   3\n" in text.stdout


def test_stats_of_an_empty_store_is_valid_json(run) -> None:
    run("put", "key", "value")
    run("delete", "key")
    run("compact")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    figures = json.loads(run("stats", "--json").stdout, parse_constant=refuse)
    assert figures["keys"] == 0


def test_verify_of_an_intact_store(run, filled: str) -> None:
    report = json.loads(run("verify", filled, "--json").stdout)
    assert (report["ok"], report["problems"]) == (True, [])
    assert report["files"] > 0
    assert report["records"] >= 3
    result = run("verify")
    assert (result.exit_code, result.stdout[:7]) == (0, "intact:")


def test_verify_of_a_damaged_store_says_where(run, filled: str, damage) -> None:
    damage(filled, VALUE.encode())
    result = run("verify", filled)
    assert (result.exit_code, result.stdout[:8]) == (6, "DAMAGED:")
    assert " at byte " in result.stderr
    report = run("verify", filled, "--json")
    assert report.exit_code == 6
    document = json.loads(report.stdout)
    assert document["ok"] is False
    (problem,) = document["problems"]
    assert problem["file"]
    assert problem["offset"] >= 0
    assert problem["expected"] != problem["found"]


def test_get_of_a_damaged_value_prints_nothing_of_it(process, filled: str, damage) -> None:
    damage(filled, VALUE.encode())
    got = process("get", "b")
    assert (got.returncode, got.stdout) == (6, b"")
    assert got.stderr.count(b"\n") == 1


def test_salvage_keeps_what_is_intact(run, filled: str, tmp_path: Path, damage) -> None:
    damage(filled, VALUE.encode())
    target = str(tmp_path / "rescued")
    result = run("salvage", target, "--json")
    assert result.exit_code == 6
    assert len(json.loads(result.stdout)["lost_ranges"]) == 1
    assert run("list", "--data", target, "--values").stdout == "a\tnew\nc\t3\n"
    assert run("verify", target).exit_code == 0
    assert run("verify", filled).exit_code == 6  # the damaged store is left as it was


def test_salvage_of_an_intact_store_is_a_copy(run, filled: str, tmp_path: Path) -> None:
    result = run("salvage", str(tmp_path / "copy"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert run("list", "--data", str(tmp_path / "copy")).stdout == "a\nb\nc\n"


def test_compact_keeps_every_key(run, filled: str) -> None:
    result = run("compact", filled)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "before" in result.stderr
    assert run("list", "--values").stdout == f"a\tnew\nb\t{VALUE}\nc\t3\n"


def test_backup_is_a_store(run, filled: str, tmp_path: Path) -> None:
    target = str(tmp_path / "backup")
    result = run("backup", target, "--json")
    assert json.loads(result.stdout) == {"target": target, "version": 4}
    run("put", "d", "later")
    assert run("list", "--data", target).stdout == "a\nb\nc\n"
    assert run("put", "--data", target, "e", "5").exit_code == 0
    assert run("get", "e").exit_code == 3


def test_backup_does_not_write_over_a_folder_in_use(run, filled: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    assert run("backup", str(tmp_path / "mine")).exit_code in {1, 2, 5}
    assert run("backup", filled).exit_code in {1, 2, 5}
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    assert run("list").stdout == "a\nb\nc\n"


def test_tail(run, filled: str) -> None:
    run("delete", "c")
    assert run("tail", "--after", "2").stdout == "3\tput\tc\n4\tput\ta\n5\tdelete\tc\n"
    assert run("tail", "--after", "4", "-0").stdout_bytes == b"5\tdelete\tc\0"
    lines = [json.loads(line) for line in run("tail", "--after", "3", "--json").stdout.splitlines()]
    assert lines[0] == {
        "version": 4,
        "kind": "put",
        "key": "a",
        "value": "new",
        "metadata": "",
        "expires_at": None,
    }
    assert (lines[1]["kind"], lines[1]["key"]) == ("delete", "c")
    assert run("tail", "--after", "5").stdout == ""
    assert run("tail", "--after", "-1").exit_code == 2


def test_tail_follows_a_writer(run, filled: str, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kvengine", "tail", "--follow", "--after", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as following:
        assert following.stdout is not None
        try:
            assert following.stdout.readline() == b"4\tput\ta\n"
            for version in (5, 6):
                run("put", "later", str(version))
                assert following.stdout.readline() == b"%d\tput\tlater\n" % version
            following.send_signal(signal.SIGINT)
            rest, messages = following.communicate()
        finally:
            following.kill()  # or a failed test would wait for it forever
    assert (following.returncode, rest, messages) == (130, b"", b"kvengine: interrupted\n")


def test_a_consumer_gets_what_is_new_and_is_listed_and_removed(run, data):
    for key in "abc":
        run("put", key, "1")
    assert run("tail", "--consumer", "search").stdout == "1\tput\ta\n2\tput\tb\n3\tput\tc\n"
    assert run("tail", "--consumer", "search").stdout == ""
    run("put", "d", "1")
    assert run("consumers").stdout == "search\t3\t1\n"
    line = json.loads(run("consumers", "--json").stdout)
    assert (line["name"], line["position"], line["lag"]) == ("search", 3, 1)
    assert run("tail", "--consumer", "search").stdout == "4\tput\td\n"
    assert run("tail", "--consumer", "search", "--after", "1").exit_code == 2
    with Store(data, read_only=True) as other:
        held = other.consumer("search")
        held.restart()
        refused = run("tail", "--consumer", "search")
        assert (refused.exit_code, refused.stdout) == (5, "")
        assert f"is in use by process {os.getpid()}" in refused.stderr
    assert run("consumers", "--remove", "nobody").exit_code == 1
    assert run("consumers", "--remove", "search").exit_code == 0
    assert run("consumers").stdout == ""
