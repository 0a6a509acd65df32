"""``kvengine bulk``: what is put, printed and deleted, and what is reported."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine.errors import StorageFull
from kvengine.namespace.transfer.bulk import Bulk

HERE = ("--namespace", "here")
PAIRS = [
    {"key": "a", "value": "1"},
    {"key": "é", "value": "gA==", "base64": True, "metadata": {"x": 1}},
    {"key": "c", "value": "3", "expiration": 4_000_000_000, "expiration_ttl": None},
]


def lines(items: list) -> bytes:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()


def listed(run) -> list[dict]:
    return json.loads(run("key", "list", *HERE).stdout)


# -- put


@pytest.mark.parametrize(
    "contents",
    [
        json.dumps(PAIRS).encode(),
        json.dumps(PAIRS, indent=2, ensure_ascii=False).encode("utf-8-sig"),
        lines(PAIRS),
        b"\r\n" + lines(PAIRS).replace(b"\n", b"\r\n\n").rstrip(),
    ],
    ids=["array", "pretty array", "lines", "lines of Windows"],
)
@pytest.mark.parametrize("from_stdin", [False, True])
def test_put(run, tmp_path: Path, contents: bytes, from_stdin: bool) -> None:
    (tmp_path / "file").write_bytes(contents)
    source = "-" if from_stdin else str(tmp_path / "file")
    result = run("bulk", "put", *HERE, source, stdin=contents)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("kvengine: wrote 3 pairs\n")
    assert run("key", "get", *HERE, "é").stdout_bytes == b"\x80"
    assert listed(run) == [
        {"name": "a"},
        {"name": "c", "expiration": 4_000_000_000},
        {"name": "é", "metadata": {"x": 1}},
    ]


def test_a_line_may_hold_what_python_takes_for_a_line_break(run) -> None:
    run("bulk", "put", *HERE, "-", stdin='{"key":"a\u2028b","value":"\x85"}'.encode())
    assert run("key", "get", *HERE, "a\u2028b").stdout == "\x85"


def test_of_a_key_that_comes_twice_the_last_one_stays(run) -> None:
    run("bulk", "put", *HERE, "-", stdin=lines([PAIRS[0], {"key": "a", "value": "2"}]))
    assert run("key", "get", *HERE, "a").stdout == "2"


def test_more_pairs_than_one_call_takes(run) -> None:
    pairs = [{"key": f"{number:05}", "value": "v"} for number in range(10_001)]
    assert "wrote 10,001 pairs" in run("bulk", "put", *HERE, "-", stdin=lines(pairs)).stderr
    assert len(listed(run)) == 10_001
    pairs[10_000]["key"] = ""
    assert run("bulk", "put", "--namespace", "new", "-", stdin=lines(pairs)).exit_code == 2
    assert run("key", "list", "--namespace", "new").exit_code == 3  # nothing was written


def test_fields_that_mean_nothing_are_left_out_with_a_word(run) -> None:
    pair = {"key": "a", "value": "1", "comment": "x", "b\x1b": 1}
    result = run("bulk", "put", *HERE, "-", stdin=lines([pair]))
    assert result.exit_code == 0
    assert r"unknown fields: 'b\x1b', 'comment'" in result.stderr


def test_without_atomic_the_others_are_written(run) -> None:
    contents = lines([*range(13), *PAIRS])
    result = run("bulk", "put", *HERE, "-", "--no-atomic", stdin=contents)
    assert (result.exit_code, result.stdout) == (2, "")
    made, *refused, report = result.stderr.splitlines()
    assert "created namespace" in made
    assert [f"line {number}: a pair must be" in text for number, text in enumerate(refused, 1)] == (
        [True] * 12
    )
    assert report == "kvengine: wrote 3 pairs; refused 13"
    assert len(listed(run)) == 3


def test_a_report_in_json(run) -> None:
    contents = lines([PAIRS[0], {"key": "b", "value": 2}, "x"])
    result = run("bulk", "put", *HERE, "-", "--no-atomic", "--json", stdin=contents)
    report = json.loads(result.stdout)
    assert (result.exit_code, report["successful_key_count"]) == (2, 1)
    assert [failure["key"] for failure in report["unsuccessful_keys"]] == ["b", "x"]
    assert "line 2" in report["unsuccessful_keys"][0]["error"]
    done = run("bulk", "put", *HERE, "-", "--json", stdin=lines(PAIRS))
    assert json.loads(done.stdout) == {"successful_key_count": 3, "unsuccessful_keys": []}


@pytest.mark.parametrize("command", ["put", "get", "delete"])
def test_a_file_that_is_not_there(run, command: str) -> None:
    result = run("bulk", command, *HERE, "/nowhere")
    assert result.exit_code == 2
    assert "/nowhere" in result.stderr


def test_a_disk_that_is_full_in_the_middle(run, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Bulk._write

    def full_at_the_second_part(self, part) -> None:
        if listed(run):
            raise StorageFull(28, "No space left on device", "00000001.log")
        write(self, part)

    run("namespace", "create", "here")
    monkeypatch.setattr(Bulk, "_write", full_at_the_second_part)
    contents = lines([{"key": f"{number:05}", "value": "v"} for number in range(10_002)])
    result = run("bulk", "put", *HERE, "-", stdin=contents)
    assert (result.exit_code, len(listed(run))) == (5, 10_000)
    assert "wrote 10,000 pairs; 2 not written: [Errno 28] No space left" in result.stderr
    refused = run("bulk", "put", *HERE, "-", stdin=contents)  # nothing was written: an error
    assert (refused.exit_code, refused.stderr.count("\n")) == (5, 1)


# -- get and delete


@pytest.mark.parametrize(
    "contents",
    [b'["a", "absent", {"name": "c"}, "a"]', b'"a"\n"absent"\n{"name": "c", "metadata": 1}\n'],
    ids=["array", "lines"],
)
def test_get_prints_the_object_that_wrangler_prints(run, contents: bytes) -> None:
    run("bulk", "put", *HERE, "-", stdin=lines(PAIRS))
    assert run("bulk", "get", *HERE, "-", stdin=contents).stdout == (
        '{\n  "a": "1",\n  "absent": null,\n  "c": "3"\n}\n'
    )
    assert run("bulk", "get", *HERE, "-", stdin=b"[]").stdout == "{}\n"
    assert run("bulk", "get", *HERE, "-", stdin='["é"]'.encode()).stdout == (
        '{\n  "\\u00e9": "\\ufffd"\n}\n'
    )


def test_delete_takes_the_output_of_a_list(run) -> None:
    run("bulk", "put", *HERE, "-", stdin=lines(PAIRS))
    contents = run("key", "list", *HERE, "--prefix", "a").stdout_bytes
    deleted = run("bulk", "delete", *HERE, "-", "--force", stdin=contents)
    assert (deleted.exit_code, deleted.stderr) == (0, "kvengine: deleted 1 key\n")
    deleted = run("bulk", "delete", *HERE, "-", "-f", "--json", stdin=b'["c", "absent"]')
    assert json.loads(deleted.stdout) == {"successful_key_count": 2, "unsuccessful_keys": []}
    assert [info["name"] for info in listed(run)] == ["é"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (5, 'index 1: a key must be a string, or an object with a "name", not a number'),
        (
            {"key": "a"},
            "index 1, key 'a': a key must be a string, or an object with a \"name\", not an",
        ),
        ({"name": 5}, 'index 1: a key must be a string, or an object with a "name", not an object'),
        ("", "index 1: Key name cannot be empty."),
        ({"name": ".."}, "index 1, key '..': \"..\" is not allowed as a key name."),
    ],
)
def test_a_bad_key(run, item, message: str) -> None:
    run("bulk", "put", *HERE, "-", stdin=lines(PAIRS))
    contents = json.dumps(["a", item, "c"]).encode()
    for arguments in (("get",), ("delete", "-f")):
        result = run("bulk", *arguments, *HERE, "-", stdin=contents)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
    assert len(listed(run)) == 3
    result = run("bulk", "delete", "-f", "--no-atomic", *HERE, "-", stdin=contents)
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert [info["name"] for info in listed(run)] == ["é"]


def test_without_a_terminal_nothing_is_deleted(run) -> None:
    run("bulk", "put", *HERE, "-", stdin=lines(PAIRS))
    result = run("bulk", "delete", *HERE, "-", stdin=b'["a"]')
    assert (result.exit_code, "--yes" in result.stderr) == (2, True)
    assert len(listed(run)) == 3


# -- a terminal, a signal


@pytest.mark.parametrize("command", ["put", "delete"])
def test_long_work_shows_a_bar(process, run, command: str) -> None:
    run("bulk", "put", *HERE, "-", stdin=lines(PAIRS))
    arguments = ("bulk", command, *HERE, "-", *(("-f",) if command == "delete" else ()))
    contents = lines(PAIRS) if command == "put" else b'["a"]'
    ours, theirs = pty.openpty()
    assert process(*arguments, stdin=contents, stderr=theirs).returncode == 0
    shown = os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert b"100%" in shown
    assert f"bulk {command}".encode() in shown
    assert b"%" not in process(*arguments, stdin=contents).stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_nothing_written(
    process, run, environment: dict[str, str], number: int, code: int
) -> None:
    """The command is made to wait when everything is checked and nothing written."""
    run("key", "put", *HERE, "a", "before")
    waiting = (
        "import sys\nfrom kvengine.cli import main\n"
        "from kvengine.cli.database import bulk\n"
        "def commit(self, progress):\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
        "bulk.Bulk.commit = commit\n"
        "main.main()\n"
    )
    file = Path(environment["KVENGINE_DATA_DIR"] + ".json")
    file.write_bytes(lines(PAIRS))
    with subprocess.Popen(
        [sys.executable, "-c", waiting, "bulk", "put", *HERE, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as held:
        assert held.stdout is not None
        held.stdout.readline()
        held.send_signal(number)
        _, message = held.communicate()
    assert (held.returncode, b"Traceback" in message) == (code, False)
    assert process("verify").returncode == 0
    assert run("key", "get", *HERE, "a").stdout == "before"
    assert listed(run) == [{"name": "a"}]
