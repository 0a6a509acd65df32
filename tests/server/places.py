"""A primary and edges as processes, for tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from tests.server.running import ACCOUNT, TOKEN

BOUND_S = 60.0
HEADERS = {"authorization": f"Bearer {TOKEN}"}


class Place:
    """A process that answers; `within` is what it is started with, such as `ip netns exec`."""

    def __init__(self, *arguments: str, host: str = "127.0.0.1", within: tuple[str, ...] = ()):
        self.arguments, self.host, self.within, self.port = arguments, host, within, 0
        self.process: Any = None
        self.start()

    def start(self) -> None:
        kind, *rest = self.arguments
        head = 1 if kind == "primary" else 2
        command = [sys.executable, "-m", "tests.server.edge_process", kind, *rest[:head]]
        command += [self.host, str(self.port), *rest[head:]]
        self.process = subprocess.Popen(
            [*self.within, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        assert line, "the process ended"
        self.port = int(line)
        self.http = httpx.Client(
            base_url=f"http://{self.host}:{self.port}", headers=HEADERS, timeout=30
        )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.http.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()

    def close(self) -> None:
        self.http.close()
        self.process.stdin.close()
        try:
            self.process.wait(20)
            self.process.stdout.close()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def path(self, namespace: str, key: str) -> str:
        return f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace}/values/{key}"

    def get(self, namespace: str, key: str) -> str | None:
        answer = self.http.get(self.path(namespace, key))
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        return answer.text

    def put(self, namespace: str, key: str, value: str) -> int:
        answer = self.http.put(self.path(namespace, key), content=value)
        assert answer.status_code == 200, answer.text
        return int(answer.headers["kv-version"])


@contextlib.contextmanager
def closing_all() -> Iterator[list[Place]]:
    """Give a list; the processes in it are ended."""
    places: list[Place] = []
    try:
        yield places
    finally:
        for place in reversed(places):
            with contextlib.suppress(Exception):
                place.close()
            if place.process.poll() is None:
                place.kill()


def until(is_so: Callable[[], bool], what: str) -> None:
    """Return when something is so; it must be within the bound."""
    deadline = time.monotonic() + BOUND_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
