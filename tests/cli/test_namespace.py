"""``kvengine namespace``: what it prints and when, and that deleting asks first."""

import json
import os
import pty
import select
import sys
import time
from pathlib import Path

import pytest

import kvengine


def titles(run) -> list[str]:
    return [info["title"] for info in json.loads(run("namespace", "list").stdout)]


def test_create_prints_the_id(run) -> None:
    result = run("namespace", "create", "my sessions")
    (info,) = json.loads(run("namespace", "list").stdout)
    assert info == {"id": result.stdout.strip(), "title": "my sessions"}
    assert len(info["id"]) == 32
    assert json.dumps({"binding": "my_sessions", "id": info["id"]}) in result.stderr


def test_create_in_json(run) -> None:
    made = json.loads(run("namespace", "create", "é", "--json").stdout)
    assert made["title"] == "é"
    assert [made] == json.loads(run("namespace", "list").stdout)


@pytest.mark.parametrize(
    ("title", "binding"), [("KV", "KV"), ("a-b.c", "a_b_c"), ("1st", "KV"), ("é", "KV")]
)
def test_the_binding_is_a_name(run, title: str, binding: str) -> None:
    assert f'"binding": "{binding}"' in run("namespace", "create", title).stderr


def test_a_title_is_given_once(run) -> None:
    run("namespace", "create", "taken")
    again = run("namespace", "create", "taken")
    assert (again.exit_code, again.stdout) == (4, "")
    assert again.stderr == "kvengine: a namespace with the title 'taken' already exists\n"
    for title in ("", "t" * 513):
        assert run("namespace", "create", title).exit_code == 2
    assert titles(run) == ["taken"]


def test_a_list_is_in_the_layout_of_wrangler(run) -> None:
    ids = [run("namespace", "create", title).stdout.strip() for title in ("b", "a")]
    assert run("namespace", "list").stdout == (
        f'[\n  {{\n    "id": "{ids[1]}",\n    "title": "a"\n  }},\n'
        f'  {{\n    "id": "{ids[0]}",\n    "title": "b"\n  }}\n]\n'
    )


def test_an_empty_database_has_an_empty_list(run, data: str) -> None:
    assert run("namespace", "list").exit_code == 1
    assert not os.path.exists(data)
    kvengine.open(data).close()
    assert run("namespace", "list").stdout == "[]\n"


@pytest.mark.parametrize("new", [("new",), ("--new-name", "new")])
@pytest.mark.parametrize("by_id", [False, True])
def test_rename(run, new: tuple[str, ...], by_id: bool) -> None:
    made = run("namespace", "create", "old").stdout.strip()
    run("key", "put", "--namespace", "old", "key", "value")
    if by_id and new == ("new",):
        new = ("--new-name", "new")
    result = run("namespace", "rename", *(("--namespace-id", made) if by_id else ("old",)), *new)
    assert (result.exit_code, titles(run)) == (0, ["new"])
    assert run("key", "get", "--namespace-id", made, "key").stdout == "value"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("absent", "new"), 3),
        (("--namespace-id", "0" * 32, "--new-name", "new"), 3),
        (("a", "b"), 4),
        (("a", ""), 2),
        (("a",), 2),
        (("--new-name", "new"), 2),
        (("a", "new", "--new-name", "new"), 2),
        (("a", "--namespace-id", "0" * 32, "--new-name", "new"), 2),
    ],
)
def test_a_rename_that_fails(run, arguments: tuple[str, ...], code: int) -> None:
    run("namespace", "create", "a")
    run("namespace", "create", "b")
    assert run("namespace", "rename", *arguments).exit_code == code
    assert titles(run) == ["a", "b"]


@pytest.mark.parametrize("yes", ["-y", "-f", "--yes", "--force", "--skip-confirmation"])
@pytest.mark.parametrize("option", [(), ("--namespace",), ("--binding",)])
def test_delete(run, data: str, yes: str, option: tuple[str, ...]) -> None:
    run("namespace", "create", "stays")
    run("key", "put", "--namespace", "gone", "key", "value")
    assert run("namespace", "delete", *option, "gone", yes).exit_code == 0
    assert titles(run) == ["stays"]
    assert run("namespace", "delete", "gone", yes).exit_code == 3
    with kvengine.Store(data, read_only=True) as store:
        assert list(store.keys(b"d")) == []  # its space is free, too


def test_delete_by_id(run) -> None:
    made = run("namespace", "create", "gone").stdout.strip()
    run("namespace", "create", "stays")
    assert run("namespace", "delete", "--namespace-id", made.upper(), "-y").exit_code == 0
    assert titles(run) == ["stays"]


@pytest.mark.parametrize("arguments", [(), ("a", "--namespace", "a"), ("a", "--namespace-id", "0")])
def test_delete_needs_one_name(run, arguments: tuple[str, ...]) -> None:
    run("namespace", "create", "a")
    assert run("namespace", "delete", *arguments, "-y").exit_code == 2
    assert titles(run) == ["a"]


def test_without_a_terminal_nothing_is_deleted(process, run) -> None:
    run("namespace", "create", "title")
    result = process("namespace", "delete", "title", stdin=b"y\n")
    assert (result.returncode, b"--yes" in result.stderr) == (2, True)
    assert titles(run) == ["title"]


def wait_until_it_sleeps(pid: int) -> None:
    """A Ctrl-C just before Python begins to read would not wake it."""
    seen = 0
    while seen < 5:
        time.sleep(0.01)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        seen = seen + 1 if state == "S" else 0


@pytest.mark.parametrize(
    ("typed", "code", "left"),
    [
        (b"y\n", 0, []),
        (b"n\n", 1, ["title"]),
        (b"\n", 1, ["title"]),
        (b"\x03", 130, ["title"]),  # Ctrl-C
        (b"\x04", 130, ["title"]),  # Ctrl-D
    ],
)
def test_on_a_terminal_it_asks(
    run, environment: dict[str, str], typed: bytes, code: int, left: list[str]
) -> None:
    run("namespace", "create", "title")
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "kvengine", "namespace", "delete", "title"]
        os.execve(sys.executable, command, environment)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(terminal, 1000)
    assert b"Delete the namespace 'title' and all its keys?" in shown
    wait_until_it_sleeps(pid)
    os.write(terminal, typed)
    while True:
        # A signal that comes just before Python reads is noticed after the read only: type again.
        if typed == b"\x03" and not select.select([terminal], [], [], 1)[0]:
            os.write(terminal, typed)
        try:
            piece = os.read(terminal, 1000)
        except OSError:  # the other side is closed
            break
        shown += piece
        if not piece:
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert titles(run) == left
    if code == 1:
        assert b"nothing was deleted" in shown


def test_a_plain_store_is_no_database(run) -> None:
    run("put", "key", "value")
    for arguments in (("namespace", "list"), ("namespace", "create", "title")):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "is a plain store, without namespaces" in result.stderr
    assert run("get", "key").stdout == "value"


@pytest.mark.parametrize("arguments", [("put", "key", "value"), ("put", "c", "x"), ("delete", "c")])
def test_plain_commands_do_not_touch_a_database(run, arguments: tuple[str, ...]) -> None:
    run("key", "put", "--namespace", "title", "key", "value")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "kvengine key put" in result.stderr
    assert run("key", "get", "--namespace", "title", "key").stdout == "value"
    assert run("list", "--prefix", "c", "--limit", "1").stdout == "c\n"  # reading is no harm


@pytest.mark.parametrize("value", ["", "null", "{}", "\\xff", '{"generation": 1}', "[" * 10_000])
def test_a_plain_store_may_have_the_key_of_the_catalog(run, value: str) -> None:
    assert run("put", "c", value).exit_code == 0
    assert run("put", "key", "value").exit_code == 0
    assert run("namespace", "list").exit_code == 1
    assert run("delete", "c").exit_code == 0


@pytest.mark.parametrize(("arguments", "code"), [(("get", "key"), 3), (("list",), 0)])
def test_plain_readers_say_that_it_is_a_database(
    run, arguments: tuple[str, ...], code: int
) -> None:
    """The key is there, in a namespace: "not in the store" alone would mislead."""
    run("namespace", "create", "flags")
    result = run(*arguments)
    assert result.exit_code == code
    assert 'is a database with namespaces; use "kvengine key get"' in result.stderr


def test_bounds_are_set_shown_and_removed(run, data: str) -> None:
    made = json.loads(run("namespace", "create", "cache", "--max-keys", "50", "--json").stdout)
    assert made == {"id": made["id"], "title": "cache", "max_keys": 50, "eviction": "lru"}
    with kvengine.open(data) as db:
        db.namespace("cache").put_many({f"{number:02}": "1234" for number in range(50)})
    assert json.loads(run("namespace", "bounds", "cache").stdout) == {
        **made, "keys": 50, "bytes": 300
    }  # fmt: skip
    result = run("namespace", "bounds", "cache", "--max-bytes", "200", "--eviction", "lfu")
    assert (result.exit_code, result.stdout) == (0, "")
    shown = json.loads(run("namespace", "bounds", "--namespace-id", made["id"]).stdout)
    assert shown["bytes"] <= shown["max_bytes"] == 200
    assert (shown["eviction"], "max_keys" in shown) == ("lfu", False)
    run("namespace", "bounds", "cache", "--none")
    assert json.loads(run("namespace", "list").stdout) == [{"id": made["id"], "title": "cache"}]


@pytest.mark.parametrize(
    "options",
    [("--none", "--max-keys", "1"), ("--eviction", "lru"), ("--max-keys", "many"),
     ("--eviction", "fifo", "--max-keys", "1")],
)  # fmt: skip
def test_bounds_that_make_no_sense_are_refused(run, options: tuple[str, ...]) -> None:
    run("namespace", "create", "cache")
    assert run("namespace", "bounds", "cache", *options).exit_code == 2
    assert run("namespace", "bounds", "cache", "--max-keys", "0").exit_code == 2
    assert len(json.loads(run("namespace", "list").stdout)[0]) == 2
