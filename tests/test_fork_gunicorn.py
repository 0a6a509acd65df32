"""`gunicorn --preload`: the application opens its database before the workers are forked.

What reads answers in every worker; what writes says how to open it, and the advice works.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvengine

pytest.importorskip("gunicorn")
ROOT = Path(__file__).parents[1]
PATIENCE_S = 60

APPLICATION = """
import os, sys
sys.path.insert(0, {root!r})
import kvengine
PATH = {path!r}
writer = kvengine.open(PATH) if {writes} else None
db = kvengine.open(PATH, read_only=True)
flags = db.namespace("flags")
flags.get("a")

def application(environ, start_response):
    try:
        if environ["PATH_INFO"] == "/write":
            writer.namespace("flags").put("a", "2")
        text = flags.get("a")
    except kvengine.KvError as error:
        text = type(error).__name__ + ": " + str(error)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%d %s" % (os.getpid(), text)).encode()]
"""


class Gunicorn:
    """A server with workers, at a Unix socket."""

    def __init__(self, folder, *arguments):
        self._socket = str(folder / "web.sock")
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "3"),
                    *("--bind", f"unix:{self._socket}", "--chdir", str(folder)),
                    *(*arguments, "app:application"),
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def ask(self, path):
        """Return (pid of the worker, text)."""
        end = time.monotonic() + PATIENCE_S
        while True:
            connection = UnixConnection(self._socket)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                text = answer.read().decode()
                assert answer.status == 200, text
                pid, _, rest = text.partition(" ")
                return int(pid), rest
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end, self._log.read_text()
                time.sleep(0.05)
            finally:
                connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


def write_application(folder, path, *, writes):
    text = APPLICATION.format(root=str(ROOT), path=str(path), writes=writes)
    (folder / "app.py").write_text(text)


def test_readers_answer_in_every_worker_and_follow(tmp_path):
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("flags").put("a", "1")
        write_application(tmp_path, tmp_path / "db", writes=False)
        with Gunicorn(tmp_path) as server:
            found = [server.ask("/") for _ in range(30)]
            assert {text for _, text in found} == {"1"}
            db.namespace("flags").put("a", "2")
            assert {server.ask("/")[1] for _ in range(30)} == {"2"}


def test_a_database_that_the_master_opened_for_writing(tmp_path):
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("flags").put("a", "1")
    write_application(tmp_path, tmp_path / "db", writes=True)
    with Gunicorn(tmp_path) as server:
        for _ in range(10):
            pid, text = server.ask("/write")
            assert text.startswith("StoreClosed: the store was opened for writing before a fork")
            assert "post_fork" in text
            assert server.ask("/")[1] == "1"
        os.kill(pid, signal.SIGKILL)  # the next worker is forked from the same master
        assert {server.ask("/")[1] for _ in range(10)} == {"1"}
    with kvengine.open(tmp_path / "db") as db:  # nobody holds it
        assert db.namespace("flags").get("a") == "1"


def test_the_advice_works(tmp_path):
    """One worker that writes opens the database in post_fork."""
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("flags").put("a", "1")
    write_application(tmp_path, tmp_path / "db", writes=False)
    (tmp_path / "conf.py").write_text(
        "def post_fork(server, worker):\n"
        "    import app, kvengine\n"
        "    app.writer = kvengine.open(app.PATH)\n"
    )
    with Gunicorn(tmp_path, "--workers", "1", "--config", "conf.py") as server:
        assert server.ask("/")[1] == "1"
        assert server.ask("/write")[1] == "2"
    with kvengine.open(tmp_path / "db") as db:
        assert db.namespace("flags").get("a") == "2"
