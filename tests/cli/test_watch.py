"""``kvengine watch`` prints each change of a namespace once, as it comes."""

import json
import signal
import subprocess
import sys

import pytest

import kvengine
from kvengine.cli.failures import ExitCode


@pytest.fixture
def db(data):
    with kvengine.open(data) as database:
        yield database


def start(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "kvengine", "watch", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_changes_of_another_process_are_printed_as_they_come(db, environment):
    kv = db.namespace("flags")
    kv.put("a/1", "old")
    with start(environment, "--namespace", "flags", "--prefix", "a/", "--after", "0") as watcher:
        assert watcher.stdout.readline().endswith(b"\tput\ta/1\n")
        kv.put("b", "other")
        kv.put("a/2", "new")
        assert watcher.stdout.readline().endswith(b"\tput\ta/2\n")
        kv.delete("a/1")
        assert watcher.stdout.readline().endswith(b"\tdelete\ta/1\n")
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(30) == ExitCode.INTERRUPTED
        assert watcher.stderr.read() == b"kvengine: interrupted\n"


def test_json_has_all_that_belongs_to_a_change(db, run):
    kv = db.namespace("flags")
    kv.put("a", "text", metadata={"x": 1}, expiration=4_000_000_000)
    kv.put("b", b"\xff")
    kv.delete("a")
    result = run("watch", "--namespace", kv.id, "--after", "0", "--timeout", "0", "--json")
    changes = [json.loads(line) for line in result.stdout.splitlines()]
    assert [{**change, "version": 0} for change in changes] == [
        {
            "version": 0,
            "kind": "put",
            "key": "a",
            "value": "text",
            "metadata": {"x": 1},
            "expiration": 4_000_000_000,
        },
        {"version": 0, "kind": "put", "key": "b", "value_base64": "/w=="},
        {"version": 0, "kind": "delete", "key": "a"},
    ]


def test_without_after_it_begins_now(db, run):
    db.namespace("flags").put("a", "1")
    assert run("watch", "--namespace", "flags", "--timeout", "0").stdout == ""


def test_what_is_not_there_is_not_made(db, run):
    assert run("watch", "--namespace", "no").exit_code == ExitCode.NOT_FOUND
    assert run("watch").exit_code == ExitCode.USAGE
    assert db.namespaces() == []


def test_a_reader_that_goes_away_ends_it(db, environment):
    kv = db.namespace("flags")
    kv.put("a", "1")
    with start(environment, "--namespace", "flags", "--after", "0") as watcher:
        watcher.stdout.readline()
        watcher.stdout.close()
        while watcher.poll() is None:
            kv.put("a", "2")
        assert watcher.returncode == ExitCode.OUTPUT_CLOSED
