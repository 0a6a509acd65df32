"""What a terminal gets: escaped keys, and progress bars; a pipe gets neither."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

import kvengine


def on_terminal(process, *arguments: str, stream: str = "stdout") -> bytes:
    """Return what a command writes to a terminal, as the command wrote it."""
    ours, theirs = pty.openpty()
    try:
        done = process(*arguments, **{"stderr": subprocess.DEVNULL, stream: theirs})
        assert done.returncode == 0
        return os.read(ours, 65536).replace(b"\r\n", b"\n")
    finally:
        os.close(ours)
        os.close(theirs)


def test_control_characters_in_keys_are_escaped(process) -> None:
    key = b"\x1b[31m\xff\\"
    process("put", key, "value\a")
    assert on_terminal(process, "list") == b"\\x1b[31m\\xff\\\\\n"
    assert on_terminal(process, "list", "--values") == b"\\x1b[31m\\xff\\\\\tvalue\\x07\n"
    for command in ("list", "tail"):
        found = on_terminal(process, command, "-0")
        assert found.endswith(b"\\x1b[31m\\xff\\\\\0")
        assert b"\x1b" not in found
        assert process(command, "-0").stdout.endswith(key + b"\0")
    assert on_terminal(process, "tail") == b"1\tput\t\\x1b[31m\\xff\\\\\n"
    assert process("list").stdout == key + b"\n"


@pytest.mark.parametrize("name", ["verify", "compact", "backup", "salvage"])
def test_long_work_shows_a_bar(process, name: str) -> None:
    process("put", "key", "value")
    targets = {"backup": ("one", "two"), "salvage": ("one", "two")}.get(name, ("", ""))
    first, second = ([name, target] if target else [name] for target in targets)
    shown = on_terminal(process, *first, stream="stderr")
    assert name.encode() in shown
    assert b"100%" in shown
    assert b"%" not in process(*second).stderr


def test_namespaces_go_out_and_in_with_a_bar(process, data: str, tmp_path: Path) -> None:
    with kvengine.open(data) as db:
        db.namespace("n").put("k", "v")
    path = str(tmp_path / "pairs")
    for name in ("export", "import"):
        shown = on_terminal(process, name, "--namespace", "n", path, stream="stderr")
        assert name.encode() in shown
        assert b"100%" in shown
        assert b"%" not in process(name, "--namespace", "n", path).stderr
