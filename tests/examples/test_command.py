"""What all examples have in common: list, help, options, missing frameworks, and how they stop."""

import importlib
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
import sortedcontainers
import xxhash
from click.testing import CliRunner

import kvengine
from kvengine import examples
from tests.examples.server import ENVIRONMENT, PACKAGE, Answer, Server, is_closed

SHARED = {"__init__", "__main__", "command", "with_fastapi", "with_flask"}
NAMES = sorted(
    path.stem for path in Path(examples.__file__).parent.glob("*.py") if path.stem not in SHARED
)
NO_SECRETS = {
    name: value
    for name, value in ENVIRONMENT.items()
    if name not in {"ADMIN_TOKEN", "WEBHOOK_SECRET"}
}

SLOW = """
import asyncio, time
import kvengine
from kvengine.examples import {module} as web
from kvengine.examples.command import example

@example("Write late.")
def main(data, port):
    with kvengine.open(data) as db:
        app = web.{new_app}

        @app.get("/")
        {function}
            print("begun", flush=True)
            {wait}
            return {{"version": db.namespace("late").put("key", "value")}}

        {serve}

main()
"""
SLOW_SERVERS = {
    "flask": SLOW.format(
        module="with_flask",
        new_app="new_app()",
        function="def late():",
        wait="time.sleep(0.3)",
        serve='web.serve(app, port, "")',
    ),
    "fastapi": SLOW.format(
        module="with_fastapi",
        new_app="new_app('late')",
        function="async def late():",
        wait="await asyncio.sleep(0.3)",
        serve='asyncio.run(web.serve(app, port, ""))',
    ),
}


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        **{"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 60, **options},
        check=False,
    )


def test_there_is_one_for_each_use() -> None:
    assert NAMES == ["api", "flags", "personal", "site", "tokens", "webhooks"]


def test_the_list_names_all() -> None:
    listed = run("-m", "kvengine.examples")
    assert re.findall(r"^    (\w+) ", listed.stdout, re.MULTILINE) == NAMES
    assert (listed.returncode, listed.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_help_is_the_docstring_with_its_commands_as_they_stand(name: str) -> None:
    module = importlib.import_module(f"kvengine.examples.{name}")
    shown = CliRunner().invoke(module.main, ["--help"])
    source = Path(examples.__file__).with_name(f"{name}.py").read_text()
    commands = re.findall(r"^    (curl .*)$", source.split('"""')[1], re.MULTILINE)
    assert commands
    for expected in (*commands, "--data", "--port"):
        assert expected in shown.stdout


@pytest.mark.parametrize("name", ["tokens", "api"])
def test_missing_frameworks_are_one_line(name: str, tmp_path: Path) -> None:
    for module in (click, sortedcontainers, xxhash):  # what kvengine itself needs
        folder = Path(module.__file__).parent
        (tmp_path / folder.name).symlink_to(folder)
    path = f"{PACKAGE}:{tmp_path}"
    without = run("-S", "-m", f"kvengine.examples.{name}", env={**ENVIRONMENT, "PYTHONPATH": path})
    assert without.returncode == 1
    assert without.stdout == ""
    assert without.stderr == (
        "missing: flask, waitress, fastapi, uvicorn; run: pip install 'kvengine[examples]'\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["personal", "flags"])  # one of each server
def test_a_temporary_folder_is_removed_at_the_end(name: str, number: int, tmp_path: Path) -> None:
    with Server(name, data=None, TMPDIR=str(tmp_path)) as server:
        (folder,) = tmp_path.iterdir()
        assert server.get("/flags" if name == "flags" else "/").status == 200
        assert list(folder.glob("*.log"))
        server.stop(number)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", SLOW_SERVERS)
def test_requests_under_way_are_finished_before_the_database_is_closed(
    kind: str, tmp_path: Path
) -> None:
    script, data = tmp_path / "slow.py", tmp_path / "data"
    script.write_text(SLOW_SERVERS[kind])
    answers: list[Answer] = []
    with Server(script, data=data) as server:
        client = threading.Thread(target=lambda: answers.append(server.get("/")))
        client.start()
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "begun\n"
        server.stop()
        client.join()
    assert [answer.status for answer in answers] == [200]
    with kvengine.open(data) as db:
        details = db.namespace("late").get_metadata("key")
    assert details.version == answers[0].json["version"]


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with Server("personal", data=tmp_path) as server:
        cookie = {"Cookie": server.get("/").headers["Set-Cookie"].partition(";")[0]}
        server.ask("PUT", "/profile", {"name": "Ada"}, cookie)
        server.process.kill()
        server.process.communicate()
        assert not is_closed(tmp_path)  # so is_closed() sees the difference
        server.start()
        assert server.get("/", cookie).json["greeting"] == "Hello, Ada!"


def test_secrets_that_were_not_given_are_new_and_printed_for_the_shell() -> None:
    secrets = set()
    for _ in range(2):
        with Server("webhooks", data=None, ADMIN_TOKEN="", WEBHOOK_SECRET="") as server:
            found = dict(line.strip().split("=", 1) for line in server.said[:-1])
            assert sorted(found) == ["ADMIN_TOKEN", "WEBHOOK_SECRET"]
            secrets.update(found.values())
            admin = {"Authorization": f"Bearer {found['ADMIN_TOKEN']}"}
            assert server.get("/hooks/shop", admin).status == 200
    assert len(secrets) == 4
    assert min(map(len, secrets)) >= 16


def test_a_secret_that_is_given_is_not_printed(tmp_path: Path) -> None:
    with Server("webhooks", data=tmp_path) as server:
        assert len(server.said) == 1
        assert ENVIRONMENT["ADMIN_TOKEN"] not in server.said[0]


def test_the_port_that_is_asked_for_is_used_and_only_once(tmp_path: Path) -> None:
    with Server("personal", data=tmp_path) as server:
        port = server.url.rpartition(":")[2]
        second = run("-m", "kvengine.examples.personal", "--port", port)
        assert second.returncode == 1
        assert re.fullmatch(r"Error: .*Address already in use.*\n", second.stderr)
    with Server("personal", "--port", port, data=tmp_path) as server:
        assert server.url == f"http://127.0.0.1:{port}"


def test_it_listens_on_this_machine_only(tmp_path: Path) -> None:
    with Server("personal", data=tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=60)


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("flags", ["--port", "65536"], 2, "65536 is not in the range 0<=x<=65535"),
        ("tokens", ["--admin-token", "short"], 2, "it must have 16 characters or more"),
        ("webhooks", ["--keep-days", "0"], 2, "0 is not in the range"),
        ("site", ["no-such-folder"], 2, "Directory 'no-such-folder' does not exist"),
        ("api", ["--data", "other"], 1, "other is not a kvengine store"),
        ("api", ["--data", "taken"], 1, "taken is open for writing in process"),
    ],
)
def test_bad_options_are_one_clear_error(
    tmp_path: Path, name: str, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("not ours")
    with kvengine.open(tmp_path / "taken", exclusive=True):
        result = run("-m", f"kvengine.examples.{name}", *arguments, cwd=tmp_path)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
