"""The guide to Flask and FastAPI: its files, run by its commands, all at once."""

import re
import shlex
import signal
import subprocess
import sys

import pytest

import kvengine
from tests.processes.servers.serving import PATIENCE_S, ROOT, UnixConnection, environment
from tests.waiting import until

pytest.importorskip("celery")
pytest.importorskip("fastapi")
pytest.importorskip("flask")
pytest.importorskip("gunicorn")
GUIDE = ROOT / "kvengine/docs/guides/web-frameworks.md"
FILES = {"shop.py", "gunicorn.conf.py", "web.py", "tasks.py"}
VISITS = 40
BROKER = """
app.conf.broker_url = "filesystem://"
folders = dict.fromkeys(("data_folder_in", "data_folder_out"), "messages")
app.conf.broker_transport_options = folders | {"control_folder": "control"}
"""


def shown():
    """Return the files of the guide and the command that each names."""
    block = re.compile(
        r"^```python\n# (\S+?)(?:, for: ([^\n]*))?\n(.*?)^```", re.MULTILINE | re.DOTALL
    )
    blocks = block.findall(GUIDE.read_text())
    return {name: code for name, _, code in blocks}, {name: run for name, run, _ in blocks if run}


@pytest.fixture
def start(tmp_path):
    """Write the files, with another database and broker; start a command beside them."""
    files, commands = shown()
    assert set(files) == FILES
    for name, code in files.items():
        code = code.replace("/srv/shop/db", str(tmp_path / "db"))
        if name == "tasks.py":
            code = code.replace("redis://localhost", "") + BROKER
        (tmp_path / name).write_text(code)
    (tmp_path / "messages").mkdir()
    running = []

    def start(name, *more):
        log = (tmp_path / f"{name}.log").open("wb")
        command = [sys.executable, "-m", *shlex.split(commands[name]), *more]
        own = environment(tmp_path / "db")
        process = subprocess.Popen(command, cwd=tmp_path, env=own, stdout=log, stderr=log)
        running.append((process, log))
        return lambda: process.poll() is None or pytest.fail((tmp_path / f"{name}.log").read_text())

    yield start
    for process, log in running:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            log.close()


def visit(path, page="/home"):
    """Return the number that a server answers; None: it does not listen yet."""
    connection = UnixConnection(str(path))
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return int(body)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    finally:
        connection.close()


def test_all_of_the_guide_at_once(start, tmp_path):
    sockets = [tmp_path / "gunicorn.sock", tmp_path / "uvicorn.sock"]
    running = [
        start("shop.py", "--no-control-socket", "--bind", f"unix:{sockets[0]}"),
        start("web.py", "--uds", str(sockets[1])),
        start("tasks.py", "--without-mingle"),
    ]
    for path in sockets:
        until(
            lambda path=path: running[0]() and running[1]() and visit(path, "/start"), "no answer"
        )
    send = f"import tasks\nfor _ in range({VISITS}): tasks.visit.delay('/home')"
    own = environment(tmp_path / "db")
    with subprocess.Popen([sys.executable, "-c", send], cwd=tmp_path, env=own) as sender:
        values = [visit(path) for _ in range(VISITS) for path in sockets]
    assert sender.returncode == 0
    assert None not in values
    assert len(set(values)) == 2 * VISITS
    with kvengine.open(tmp_path / "db") as db:
        visits = db.namespace("visits")
        until(lambda: running[2]() and visits.get("/home") == str(3 * VISITS), "tasks are missing")
