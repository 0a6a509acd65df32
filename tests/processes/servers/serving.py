"""Starts a real server with workers at a Unix socket, asks it from many threads, and counts.

A request whose answer was lost, because its worker ended, may have counted or not; every answer
that came must have a number of its own.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kvengine

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60
CLIENTS = 8


def environment(db_path):
    """Return the environment of a program that uses this package, and this database."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "KVENGINE_TEST_DB": str(db_path),
    }


def program(db_path, *arguments):
    """Run a module with arguments; return what it printed."""
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=environment(db_path),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    assert done.returncode == 0, (arguments, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


class Unanswered(Exception):
    """A request was sent, and no answer came."""


class UnixConnection(http.client.HTTPConnection):
    """A connection to a path."""

    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


class Service:
    """A server on a database in `folder`; `{socket}` in its command stands for where it listens."""

    def __init__(self, folder, command):
        self.db = folder / "db"
        self.socket = str(folder / "web.sock")
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(socket=self.socket) for part in command],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment(self.db),
            )

    def __enter__(self):
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.ask("/setting")
                return self
            except (OSError, Unanswered):
                assert self.process.poll() is None, self.log()
                assert time.monotonic() < end, self.log()
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nobody is left, as it should be
                os.killpg(self.process.pid, signal.SIGKILL)

    def log(self):
        """Return what the server and its workers said."""
        return self._log.read_text()

    def ask(self, path):
        """Return what a worker answers; None: not found.

        Raises:
            OSError: nobody could be reached, so nothing was done.
            Unanswered: the answer was lost.
        """
        connection = UnixConnection(self.socket)
        try:
            connection.connect()
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise Unanswered(path) from error
        finally:
            connection.close()
        assert answer.status in (200, 404), (answer.status, body, self.log())
        return json.loads(body) if answer.status == 200 else None


class Crowd:
    """What some clients saw, who visit and keep sessions at the same time."""

    def __init__(self, service):
        self._service = service
        self._lock = threading.Lock()
        self.values, self.pids, self.lost = [], [], 0
        self.sessions = {}  # the least and the most visits that each may have
        self._enough = threading.Event()

    def visit(self, least, enough=lambda crowd: True):
        """Visit until there are so many answers, and enough is seen."""
        end = time.monotonic() + PATIENCE_S
        self._enough.clear()
        least += len(self.values)
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(self._stroll, f"user-{n}") for n in range(CLIENTS)]
            while len(self.values) < least or not enough(self):
                stopped = any(one.done() for one in running)
                if stopped or time.monotonic() > end:
                    break
                time.sleep(0.01)
            self._enough.set()
        for one in running:
            one.result()
        assert len(self.values) >= least, self._service.log()
        assert enough(self), (set(self.pids), self._service.log())
        return self

    def _stroll(self, user):
        """One client: logs in, counts, and comes back to its session, whoever answers."""
        session = None
        while session is None and not self._enough.is_set():
            login = self._ask(f"/login/{user}")
            session = login and login["session"]
        least = most = 0
        while not self._enough.is_set():
            found = self._ask("/visit")
            if found is not None:
                with self._lock:
                    self.values.append(found["value"])
            found = self._ask(f"/session/{session}")
            most += 1
            if found is not None:
                assert found["user"] == user
                assert least < found["visits"] <= most, (least, most)
                least = most = found["visits"]
        if session is not None:
            with self._lock:
                self.sessions[session] = (least, most)

    def _ask(self, path):
        """Return an answer, or None if it was lost."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = self._service.ask(path)
            except Unanswered:
                with self._lock:
                    self.lost += path == "/visit"
                return None
            except OSError:  # the queue of the socket is full: nothing was sent
                assert self._service.process.poll() is None, self._service.log()
                assert time.monotonic() < end, self._service.log()
                time.sleep(0.005)
                continue
            assert found is not None, f"{path}: the session is lost"
            with self._lock:
                self.pids.append(found["pid"])
            return found


def everybody(count):
    """Return a condition: so many workers have answered."""
    return lambda crowd: len(set(crowd.pids)) >= count


def check(db_path, crowd):
    """Assert that every increment had a number of its own, and that the database has them all."""
    values, lost = crowd.values, crowd.lost
    assert len(set(values)) == len(values), "two requests got the same number"
    with kvengine.open(db_path, read_only=True) as db:
        total = int(db.namespace("counters").get("visits"))
        assert len(values) <= total <= len(values) + lost
        assert max(values) <= total
        if not lost:
            assert sorted(values) == list(range(1, total + 1))
        for session, (least, most) in crowd.sessions.items():
            found = db.namespace("sessions").get(session, "json")
            assert least <= found["visits"] <= most, (session, found, least, most)
    assert kvengine.verify(db_path).ok
