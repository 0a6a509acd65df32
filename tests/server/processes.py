"""`kvengine serve` as a process, for tests; and how it fares while somebody attacks it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.running import ACCOUNT, TOKEN

HEADERS = {"authorization": f"Bearer {TOKEN}"}
BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
NAMESPACES = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
MEBIBYTE = 1 << 20
LARGE = 25 * MEBIBYTE  # the largest value
URL = re.compile(r"url +(\S+)")


class Process:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""

    def wait_until_ready(self) -> None:
        """Read what it prints, up to what it prints last."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            if not line:
                _, said = self.process.communicate(timeout=60)
                raise AssertionError(f"the server has ended: {said}")
            self.lines.append(line)
            found = URL.search(line)
            if found:
                self.url = found[1]
            if line.startswith("  account"):
                return

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(
    data: Path,
    *options: str,
    token: str | None = TOKEN,
    start: Sequence[str] = (sys.executable, "-m", "kvengine", "serve"),
    **environment: str,
) -> Iterator[Process]:
    """Run `kvengine serve`, as `start` says."""
    chosen = {**os.environ, "KVENGINE_ACCOUNT": ACCOUNT, **environment}
    if token is not None:
        chosen["KVENGINE_TOKEN"] = token
    command = [*start, "--data", str(data), "--port", "0", *options]
    with subprocess.Popen(
        command, env=chosen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Return when something is so, at the latest after half a minute."""
    for _ in range(600):
        try:
            if is_so():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("it did not come to be so")


def values_of(server: Process) -> str:
    """Return the path of the values of a server's first namespace."""
    found = httpx.get(server.url + NAMESPACES, headers=HEADERS, timeout=30).json()["result"]
    return f"{NAMESPACES}/{found[0]['id']}/values"


def connected(url: str, timeout: float = 30) -> socket.socket:
    """Return a connection to a server."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=timeout)


def head(method: str, path: str, *lines: bytes, token: bool = True) -> bytes:
    """Return the head of a request."""
    start = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
    return start + (BEARER if token else b"") + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def answer_of(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection or is silent."""
    found = b""
    with contextlib.suppress(OSError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


def sent(connection: socket.socket, data: bytes, times: int) -> int:
    """Send something again and again; return how often it was taken before the server closed."""
    for number in range(times):
        try:
            connection.sendall(data)
        except OSError:
            return number
    return times


def is_held(connection: socket.socket) -> bool:
    """Return whether the server, on this machine, has not closed its side of a connection."""
    mine = f":{connection.getsockname()[1]:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[2].endswith(mine) and row[3] == "01" for row in rows)


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """How a server fares: the longest time to answer /health, and the most memory."""

    def __init__(self, server: Process) -> None:
        self.server = server
        self.pids = [server.process.pid, *children(server.process.pid)]
        self.before = self.most = self._memory()
        self.worst_s, self.answers = 0.0, 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def growth(self) -> int:
        """Bytes of memory more than before."""
        return self.most - self.before

    def _memory(self) -> int:
        return max(resident(pid) for pid in self.pids)

    def _run(self) -> None:
        with httpx.Client(timeout=120) as client:
            while not self._stopping.is_set():
                began = time.monotonic()
                assert client.get(f"{self.server.url}/health").status_code == 200
                self.worst_s = max(self.worst_s, time.monotonic() - began)
                self.answers += 1
                self.most = max(self.most, self._memory())
                time.sleep(0.01)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: self.answers > 2)
        return self

    def __exit__(self, *error: object) -> None:
        count = self.answers
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.answers > count)
        self._stopping.set()
        self._thread.join()
        print(f"worst {self.worst_s * 1e3:.0f} ms, {self.growth / MEBIBYTE:.0f} MiB more")


class Target:
    """A server under attack, with a second token for those who mean no harm."""

    def __init__(self, server: Process, primary: Process | None = None) -> None:
        self.server, self.url, self.primary = server, server.url, primary
        at = primary or server
        self.values = values_of(at)
        self.namespace = self.values.split("/")[-2]
        body = {"name": "other", "write": True}
        made = httpx.post(f"{at.url}/v1/tokens", headers=HEADERS, json=body)
        self.other = {"authorization": f"Bearer {made.json()['secret']}"}
        self.writes = True
        for key, value in (("held", b"v"), ("large", bytes(LARGE))):
            where = f"{at.url}{self.values}/{key}"
            httpx.put(where, headers=HEADERS, content=value, timeout=60).raise_for_status()
        wait_for(lambda: self._read("held").content == b"v")

    def _read(self, key: str) -> httpx.Response:
        return httpx.get(f"{self.url}{self.values}/{key}", headers=self.other, timeout=30)

    def status(self, method: str, path: str, content: bytes, **headers: str) -> int:
        """Return what an attacker's request is answered."""
        return httpx.request(
            method, self.url + path, headers=HEADERS | headers, content=content, timeout=60
        ).status_code

    def check_others(self) -> None:
        """Read and write with the other token."""
        assert self._read("held").content == b"v"
        if self.writes:
            where = f"{self.url}{self.values}/theirs"
            found = httpx.put(where, headers=self.other, content=b"w", timeout=30)
            assert found.status_code == 200, found.text


def certificate_in(folder: Path) -> tuple[str, str]:
    """Return the files of a new certificate and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(folder / "cert.pem"), str(folder / "key.pem")
