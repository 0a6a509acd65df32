"""Clients that leave, stall or close their side, in front of workers or a primary."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from kvengine.client.packing import pack
from tests.server.processes import (
    HEADERS,
    NAMESPACES,
    Process,
    answer_of,
    children,
    connected,
    head,
    serving,
    values_of,
    wait_for,
)
from tests.server.running import ACCOUNT, Running

MANY = 250  # more than the connections to a primary that requests share
SIZE = b"Content-Length: %d"


@contextmanager
def workers(tmp_path: Path) -> Iterator[Process]:
    with serving(tmp_path / "data", "--limits", "relaxed", "--workers", "1") as server:
        server.wait_until_ready()
        yield server


@contextmanager
def edge(tmp_path: Path) -> Iterator[Process]:
    with serving(tmp_path / "data", "--limits", "relaxed") as primary:
        primary.wait_until_ready()
        with serving(tmp_path / "copies", "--upstream", primary.url) as server:
            server.wait_until_ready()
            yield server


BOTH = pytest.mark.parametrize("place", [workers, edge])


def put_works(server: Process, values: str) -> None:
    """Check that writes are answered."""
    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=30) as client:
        for number in range(5):
            found = client.put(f"{values}/k{number}", content=b"v")
            assert found.status_code == 200, found.text


def left(server: Process, request: bytes, *, read: bool, reset: bool) -> bool:
    """Send a request, perhaps read the beginning of its answer, and leave.

    Return False if that is refused: streams end within a second after their clients.
    """
    with closing(connected(server.url)) as connection:
        connection.sendall(request)
        status = connection.recv(64)[9:12] if read else b"200"
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert status in (b"200", b"429")
    return status == b"200"


@BOTH
@pytest.mark.parametrize("reset", [False, True])
def test_clients_that_have_left_hold_nothing(
    tmp_path: Path, place: Callable[[Path], AbstractContextManager[Process]], reset: bool
) -> None:
    """Watches, tabs of the console, lists and writes whose clients are gone free what they held."""
    with place(tmp_path) as server:
        values = values_of(server)
        namespace = values.split("/")[-2]
        put_works(server, values)
        body = pack([[], {}])
        requests = {
            "watch": (head("POST", f"/v1/ns/{namespace}/watch", SIZE % len(body)) + body, True),
            "tab": (head("GET", "/v1/live"), True),
            "list": (head("GET", f"{NAMESPACES}/{namespace}/keys"), False),
            "changes": (head("GET", "/v1/changes?after=0"), True),
            "half": (head("PUT", f"{values}/half", SIZE % 9) + b"v", False),
        }
        for request, read in requests.values():
            for _ in range(MANY):
                wait_for(partial(left, server, request, read=read, reset=reset))
            put_works(server, values)


@BOTH
def test_uploads_without_a_token_stop_nobody(
    tmp_path: Path, place: Callable[[Path], AbstractContextManager[Process]]
) -> None:
    with place(tmp_path) as server, ExitStack() as stack:
        values = values_of(server)
        for _ in range(MANY):
            connection = stack.enter_context(closing(connected(server.url)))
            connection.sendall(
                head("PUT", f"{values}/slow", SIZE % 5_000_000, token=False) + b"x" * 1000
            )
        put_works(server, values)
        for _ in range(MANY):  # nor do those that have one
            connection = stack.enter_context(closing(connected(server.url)))
            connection.sendall(head("PUT", f"{values}/slow", SIZE % 500_000) + b"x" * 1000)
        put_works(server, values)


@BOTH
def test_nothing_is_forwarded_without_a_token(
    tmp_path: Path, place: Callable[[Path], AbstractContextManager[Process]]
) -> None:
    with place(tmp_path) as server:
        values = values_of(server)
        namespace = values.split("/")[-2]
        workerd = f"/workerd/{ACCOUNT}/{namespace}/k?urlencoded=true"
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for method, path in (
                ("PUT", f"{values}/k"), ("GET", f"{NAMESPACES}/{namespace}/keys"), ("PUT", workerd),
                ("POST", "/v1/tokens"), ("GET", "/v1/log"), ("POST", f"/v1/ns/{namespace}/put"),
            ):  # fmt: skip
                for token in ({}, {"authorization": "Bearer kve_unknown"}):
                    found = client.request(method, path, headers=token, content=b"v")
                    assert found.status_code == 401, (method, path, found.text)
            old = {"x-auth-key": HEADERS["authorization"].removeprefix("Bearer ")}
            assert client.put(f"{values}/k", headers=old, content=b"v").status_code == 200
            assert "<html" in client.get("/").text
            assert client.get("/console/main.js").status_code == 200
            assert client.get("/elsewhere").status_code == 404


def test_an_edge_stops_though_another_listens(tmp_path: Path) -> None:
    """Changes that an edge passes on end when it stops, and it answers the next request."""
    with ExitStack() as stack:
        url, places = "", []
        for number in range(3):
            upstream = ("--upstream", url) if url else ()
            server = stack.enter_context(serving(tmp_path / str(number), *upstream))
            server.wait_until_ready()
            url = server.url
            places.append(server)
        streams = []
        for path in ("/v1/changes?after=0&hold=30", "/v1/live", "/v1/log?follow=1"):
            connection = stack.enter_context(closing(connected(places[1].url)))
            connection.sendall(head("GET", path))
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")
            streams.append(connection)
        began = time.monotonic()
        assert places[1].stop() == 0
        assert time.monotonic() - began < 20  # it used to wait for 30 s


def test_a_silent_primary_does_not_stop_large_reads(tmp_path: Path) -> None:
    """Requests about unknown tokens take no thread of those that read what is held."""
    value = b"v" * 3_000_000
    with serving(tmp_path / "data", "--limits", "relaxed") as primary:
        primary.wait_until_ready()
        values = values_of(primary)
        httpx.put(f"{primary.url}{values}/large", headers=HEADERS, content=value).raise_for_status()
        with (
            serving(tmp_path / "copies", "--upstream", primary.url) as server,
            ExitStack() as stack,
        ):
            server.wait_until_ready()
            where = f"{server.url}{values}/large"
            assert httpx.get(where, headers=HEADERS, timeout=60).content == value
            primary.process.send_signal(19)  # SIGSTOP
            try:
                for number in range(60):
                    connection = stack.enter_context(closing(connected(server.url)))
                    unknown = b"Authorization: Bearer kve_%d" % number
                    connection.sendall(head("GET", f"{values}/large", unknown, token=False))
                threading.Event().wait(0.3)
                for _ in range(3):
                    found = httpx.get(where, headers=HEADERS, timeout=9)
                    assert found.content == value
                    assert found.headers["cf-cache-status"] in ("HIT", "STALE")
                assert connection.recv(64).startswith(b"HTTP/1.1 503 ")
            finally:
                primary.process.send_signal(18)  # SIGCONT


# -- clients that close their side


def test_a_request_whose_client_sends_no_more(server: Running) -> None:
    path = f"{NAMESPACES}/{server.namespace_id('kv')}/values/k"
    last = b"Connection: close"
    put = server.raw(head("PUT", path, SIZE % 5) + b"value", end=True)
    assert put.startswith(b"HTTP/1.1 200 ")
    assert server.raw(head("GET", path), end=True).endswith(b"\r\n\r\nvalue")
    for _ in range(3):  # the first one is no hot read yet
        both = server.raw(head("GET", path) + head("GET", path, last), end=True)
        assert both.count(b"\r\n\r\nvalue") == 2
    large = b"x" * 3_000_000
    put = server.raw(head("PUT", path, SIZE % len(large)) + large, end=True)
    assert put.startswith(b"HTTP/1.1 200 ")
    assert server.raw(head("GET", path), end=True).endswith(large)
    assert server.raw(head("PUT", path, SIZE % 5) + b"val", end=True) == b""  # not all of it came
    assert server.db.namespace("kv").get("k", "bytes") == large
    assert server.raw(b"GET / HT", end=True) == b""
    assert server.raw(b"", end=True) == b""


@pytest.mark.skipif(not shutil.which("nc"), reason="needs nc")
def test_nc(server: Running) -> None:
    path = f"{NAMESPACES}/{server.namespace_id('kv')}/values/k"
    request = head("PUT", path, SIZE % 5, b"Connection: close") + b"value"
    command = ["nc", "-N", "127.0.0.1", str(server.port)]
    done = subprocess.run(command, input=request, capture_output=True, timeout=30, check=False)
    assert done.stdout.startswith(b"HTTP/1.1 200 "), done.stderr
    assert server.db.namespace("kv").get("k") == "value"


def test_an_edge_answers_who_sends_no_more(tmp_path: Path) -> None:
    with edge(tmp_path) as server:
        values = values_of(server)
        with closing(connected(server.url)) as connection:
            connection.sendall(head("PUT", f"{values}/k", SIZE % 5) + b"value")
            connection.shutdown(socket.SHUT_WR)
            assert answer_of(connection).startswith(b"HTTP/1.1 200 ")
        assert httpx.get(f"{server.url}{values}/k", headers=HEADERS).text == "value"
        wait_for(lambda: not children(server.process.pid))
