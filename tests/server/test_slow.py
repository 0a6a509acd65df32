"""Clients that are slow on purpose: a byte now and then, and large answers that nobody takes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from kvengine.client.packing import pack
from kvengine.server.http.body.pace import Pace
from tests.server.processes import (
    HEADERS,
    MEBIBYTE,
    NAMESPACES,
    Watch,
    answer_of,
    connected,
    head,
    is_held,
    serving,
    values_of,
    wait_for,
)
from tests.server.running import running

LARGE = 25 * MEBIBYTE


def test_the_pace_of_a_window() -> None:
    pace = Pace()
    assert not pace.is_too_slow(10.0, 5.0, 100.0)  # it begins
    pace.count += 499
    assert not pace.is_too_slow(14.0, 5.0, 100.0)
    assert pace.is_too_slow(15.0, 5.0, 100.0)
    pace.count += 500
    assert not pace.is_too_slow(20.0, 5.0, 100.0)
    pace.rest()
    assert not pace.is_too_slow(90.0, 5.0, 100.0)  # nothing was to be moved meanwhile


@pytest.mark.parametrize("lines", [(b"Content-Length: 9000",), (b"Transfer-Encoding: chunked",)])
def test_a_body_that_trickles(lines: tuple[bytes, ...]) -> None:
    """A byte each time before the patience for silence is over does not keep a request alive."""
    piece = b"x" if lines[0].startswith(b"Content") else b"1\r\nx\r\n"
    with running(body_timeout_s=2.0) as server:
        path = f"{NAMESPACES}/{server.namespace_id('kv')}/values/k"
        with closing(socket.create_connection(("127.0.0.1", server.port), 30)) as connection:
            connection.sendall(head("PUT", path, *lines))
            connection.settimeout(0.2)
            for _ in range(150):
                connection.sendall(piece)
                try:
                    found = connection.recv(64)
                except TimeoutError:
                    continue
                assert found.startswith(b"HTTP/1.1 408 ")
                return
        raise AssertionError("the request is still alive")


def test_an_answer_that_is_taken_in_drops() -> None:
    with running(write_timeout_s=2.0, slowest_bytes_s=1e9) as server:
        namespace = server.namespace_id("kv")
        server.db.namespace_by_id(namespace).put("large", bytes(LARGE))
        with closing(socket.socket()) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head("GET", f"{NAMESPACES}/{namespace}/values/large"))
            size = 0
            with suppress(ConnectionError):
                while is_held(connection) and size < LARGE:
                    size += len(connection.recv(1 << 16))
                    threading.Event().wait(0.1)
            assert size + len(answer_of(connection)) < LARGE


def stalled(url: str, request: bytes) -> socket.socket:
    """Send a request of whose answer nothing is read."""
    connection = connected(url)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(request)
    return connection


@contextmanager
def stalling(tmp_path: Path, method: str, path: str, body: bytes, count: int) -> Iterator[Watch]:
    """Have many readers of a large value that read nothing; {ns} in the path is its namespace."""
    options = ("--limits", "relaxed", "--body-memory", "200")
    with serving(tmp_path / "data", *options) as server:
        server.wait_until_ready()
        values = values_of(server)
        for _ in range(2):
            httpx.put(f"{server.url}{values}/k", headers=HEADERS, content=bytes(LARGE), timeout=60)
        made = httpx.post(f"{server.url}/v1/tokens", headers=HEADERS, json={"name": "other"})
        other = {"authorization": f"Bearer {made.json()['secret']}"}
        place = path.format(ns=values.split("/")[-2])
        request = head(method, place, b"Content-Length: %d" % len(body)) + body
        connections = []
        with Watch(server) as watch:
            connections = [stalled(server.url, request) for _ in range(count)]
            threading.Event().wait(2)
            with httpx.Client(base_url=server.url, headers=other, timeout=60) as client:
                assert len(client.request(method, place, content=body).content) > LARGE
        yield watch
        for connection in connections:
            connection.close()
        # What they held is given back.
        wait_for(lambda: httpx.request(
            method, server.url + place, headers=HEADERS, content=body, timeout=60
        ).is_success)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "args", "most"),
    # While it is made an answer counts for nothing, but only so many threads make answers.
    [("history", ["k"], 500), ("get", ["k", "bytes"], 1400)],
)
def test_large_answers_that_nobody_takes(
    tmp_path: Path, method: str, args: list[str], most: int
) -> None:
    """Half of the memory for bodies is what one token can hold, however many readers it has."""
    body = pack([args, {}])
    with stalling(tmp_path, "POST", f"/v1/ns/{{ns}}/{method}", body, 60) as watch:
        assert watch.growth < most * MEBIBYTE  # 60 values are 1,500 MiB


def test_a_stream_for_which_there_is_no_room_says_so(tmp_path: Path) -> None:
    options = ("--limits", "relaxed", "--body-memory", "60")  # a token has 30, a value takes 50
    with serving(tmp_path / "data", *options) as server:
        server.wait_until_ready()
        values = values_of(server)
        httpx.put(f"{server.url}{values}/k", headers=HEADERS, content=bytes(LARGE), timeout=60)
        body = pack([["k"], {}])
        path = f"/v1/ns/{values.split('/')[-2]}/history"
        request = head("POST", path, b"Content-Length: %d" % len(body), b"Connection: close") + body
        with closing(connected(server.url)) as connection:
            connection.sendall(request)
            assert b"the client reads too slowly" in answer_of(connection)
