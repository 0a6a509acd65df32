"""An example in a process of its own, and requests to it.

Invariants:

* Each stop is checked: status 0, no traceback, the database closed.
* No process outlives the block that started it.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import kvengine

PACKAGE = Path(kvengine.__file__).resolve().parents[1]
ADMIN_TOKEN = "admin token of the tests"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
WEBHOOK_SECRET = "webhook secret of the tests"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(PACKAGE),
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "WEBHOOK_SECRET": WEBHOOK_SECRET,
}


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON says it."""
        return json.loads(self.body)

    @property
    def why(self) -> str:
        """What the body says about an error."""
        return self.json.get("detail") or self.json["error"]


class Server:
    """`python -m kvengine.examples.NAME --port 0 ...`, or a script; stopped by the with block."""

    def __init__(
        self, name: str | Path, *arguments: object, data: Path | None, **environment: str
    ) -> None:
        program = [str(name)] if isinstance(name, Path) else ["-m", f"kvengine.examples.{name}"]
        self.command = [sys.executable, *program, "--port", "0", *map(str, arguments)]
        self.command += [] if data is None else ["--data", str(data)]
        self.data, self.environment = data, {**ENVIRONMENT, **environment}
        self.start()

    def start(self) -> None:
        """Start the process and wait for the line with its URL."""
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )
        assert self.process.stdout is not None
        self.said: list[str] = []
        while not self.said or not self.said[-1].startswith("Serving http"):
            line = self.process.stdout.readline()
            if not line:
                self.process.communicate()
                raise AssertionError(f"{self.command} ended: {''.join(self.said)}")
            self.said.append(line)
        self.url = self.said[-1].split()[1]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the process; it must close its database."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        assert (self.process.returncode, said) == (0, ""), (self.process.returncode, said)
        if self.data is not None:
            assert is_closed(self.data)

    def restart(self) -> None:
        """Stop the process and start it again on the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None and self.process.returncode is None:
                self.stop()
        finally:
            self.process.kill()
            self.process.communicate()

    def ask(
        self, method: str, path: str, sent: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, the path as it is; `sent` is bytes, or what JSON says."""
        headers = dict(headers or {})
        if sent is not None and not isinstance(sent, bytes):
            sent = json.dumps(sent).encode()
        if sent is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, path, sent, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET request."""
        return self.ask("GET", path, headers=headers)


def is_closed(folder: Path) -> bool:
    """Return whether a database was closed: opening it has nothing to cut off its log."""
    before = _log_bytes(folder)
    with kvengine.open(folder):
        return _log_bytes(folder) == before


def _log_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.log"))
