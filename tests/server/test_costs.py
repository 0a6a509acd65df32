"""What a client can cost, row by row: memory is bounded, and others are served meanwhile.

Times are looked at only to tell "at once" from "blocked for seconds".
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from kvengine.client.packing import pack, unpack
from kvengine.server.http.head import HEAD_BYTES_MAX, HEADERS_MAX
from tests.server.processes import (
    HEADERS,
    MEBIBYTE,
    NAMESPACES,
    Process,
    Watch,
    answer_of,
    connected,
    head,
    is_held,
    sent,
    serving,
    values_of,
    wait_for,
)
from tests.server.running import running

CHUNKED = b"Transfer-Encoding: chunked"
AT_ONCE_S = 4.0  # each of these blocked for many seconds; answers come in milliseconds
ROOM = 64 * MEBIBYTE


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("served") / "data", "--limits", "relaxed") as server:
        server.wait_until_ready()
        httpx.put(server.url + values_of(server) + "/k", headers=HEADERS, content=b"v")
        yield server


def namespace_of(server: Process) -> str:
    return values_of(server).split("/")[-2]


def test_floods(served: Process) -> None:
    """Around a body, and in a head: each is cut off, and all at once they fill no memory."""
    body = head("PUT", "/x", CHUNKED, token=False)
    floods = [
        (body + b"0\r\n", b"a:\r\n"),  # trailers
        (body + b"0\r\na: ", b"x"),  # one of them, without end
        (body + b"1;a=", b"x"),  # an extension of a chunk
        (body, b"1;abcdefghijklmnop\r\nx\r\n"),
        (body, b"0"),  # the size of a chunk
        (b"GET /health HTTP/1.1\r\n", b"a: b\r\n"),
        (b"GET /health HTTP/1.1\r\na: ", b"x"),
        (b"GET /", b"x"),
        (b"GET /health HTTP/1.1\r\n", b"x"),
        (b"\r\n", b"\r\n"),
    ]

    def flood(start: bytes, again: bytes) -> int:
        with closing(connected(served.url)) as connection:
            connection.sendall(start)
            return sent(connection, again * (65_536 // len(again)), 1000)

    with Watch(served) as watch, ThreadPoolExecutor(len(floods)) as pool:
        taken = list(pool.map(flood, *zip(*floods, strict=True)))
    assert [count < 1000 for count in taken] == [True] * len(floods)
    assert watch.growth < ROOM
    assert watch.worst_s < AT_ONCE_S


def test_a_head_is_bounded_exactly(served: Process) -> None:
    for size, status in ((HEAD_BYTES_MAX, b"200"), (HEAD_BYTES_MAX + 1, b"431")):
        for pieces in (1, 7):
            start = head("GET", "/health", token=False)[:-2] + b"X: "
            data = start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"
            assert len(data) == size
            with closing(connected(served.url)) as connection:
                connection.settimeout(30)
                for at in range(0, size, -(-size // pieces)):
                    connection.sendall(data[at : at + -(-size // pieces)])
                assert connection.recv(4096).split(b" ")[1] == status
    for count, status in ((HEADERS_MAX, b"200"), (HEADERS_MAX + 1, b"431")):
        lines = [b"X-%d: y" % number for number in range(count - 1)]
        with closing(connected(served.url)) as connection:
            connection.sendall(head("GET", "/health", *lines, token=False))
            assert connection.recv(4096).split(b" ")[1] == status
    with closing(connected(served.url)) as connection:
        connection.sendall(head("GET", "/health?" + "q" * 17_000, token=False))
        assert connection.recv(4096).split(b" ")[1] == b"414"


def test_hot_reads_have_the_same_bounds(served: Process) -> None:
    path = f"{values_of(served)}/k"
    for size, status in ((HEAD_BYTES_MAX, b"200"), (HEAD_BYTES_MAX + 1, b"431")):
        start = head("GET", path)[:-2] + b"X: "
        with closing(connected(served.url)) as connection:
            connection.sendall(start + b"x" * (size - len(start) - 4) + b"\r\n\r\n")
            assert connection.recv(4096).split(b" ")[1] == status


def test_long_paths_and_queries(served: Process) -> None:
    for path in ("/" * 16_000, "/v1" + "/%61" * 4000, "/client/v4/accounts" + "/x" * 8000):
        with closing(connected(served.url)) as connection:
            connection.sendall(head("GET", path))
            assert connection.recv(4096).split(b" ")[1] == b"404", path[:20]
    many = "&".join(f"a{number}=b" for number in range(1000))
    found = httpx.get(f"{served.url}{NAMESPACES}?{many}", headers=HEADERS)
    assert found.status_code == 400
    assert "at most 100 fields" in found.text


def test_nested_json(served: Process) -> None:
    """Bodies that take seconds to understand are refused, or understood beside the others."""
    path = f"{served.url}/v1/ns/{namespace_of(served)}/get"
    bodies = [
        b"[" + b"[" * 11_000_000 + b"]" * 11_000_000 + b"]",
        b"[" + b"[]," * 7_000_000 + b"[]]",
        b"[[" + b'{"$d":[["a",' * 90 + b"1" + b"]]}" * 90 + b"],{}]",
        b"[[" + b'{"a":[1]},' * 40_000 + b"1],{}]",
    ]
    with Watch(served) as watch, httpx.Client(headers=HEADERS, timeout=120) as client:
        for text in bodies:
            found = client.post(path, content=len(text).to_bytes(4, "little") + text)
            assert found.status_code in (400, 413), found.text
            assert client.get(served.url + values_of(served) + "/k").content == b"v"
    assert watch.growth < 200 * MEBIBYTE  # a body of 22 MB, and its pieces
    assert watch.worst_s < AT_ONCE_S


def test_large_json_is_understood(served: Process) -> None:
    pairs = [
        {"key": f"k{number}", "value": "v" * 900, "metadata": {"n": [number] * 5}}
        for number in range(9999)
    ]
    path = f"{served.url}/v1/ns/{namespace_of(served)}"
    with Watch(served) as watch, httpx.Client(headers=HEADERS, timeout=120) as client:
        found = client.post(f"{path}/put_many", content=pack([[pairs], {}]))
        assert found.status_code == 200, found.text
        got = client.post(f"{path}/get_with_metadata", content=pack([["k77"], {}]))
        assert unpack(got.content)[1] == {"n": [77] * 5}
    assert watch.worst_s < AT_ONCE_S


def test_queries(served: Process) -> None:
    one = "a%d: kvStorageAdaptiveGroups(limit: 1) { max { keyCount } }"
    many = " ".join(one % number for number in range(1000))
    inside = "{ viewer { accounts { %s } } }"
    path = f"{served.url}/client/v4/graphql"
    queries = [
        inside % many,
        "{ viewer " + "@skip(if: false) " * 3000 + "{ accounts { __typename } } }",
        "{ viewer " * 900 + "}" * 900,
        inside % ("x: __typename " * 900),
        "{ ...A } "
        + " ".join(
            f"fragment {c} on Query {{ ...{d} ...{d} }}" for c, d in pairwise("ABCDEFGHIJKL")
        ),
    ]
    with Watch(served) as watch, httpx.Client(headers=HEADERS, timeout=120) as client:
        for query in queries:
            found = client.post(path, json={"query": query})
            assert found.status_code == 200
            assert found.json()["data"] is None, query[:80]
        few = inside % " ".join(one % number for number in range(10))
        found = client.post(path, json={"query": few}).json()
        assert found["errors"] is None
        assert len(found["data"]["viewer"]["accounts"][0]) == 10
    assert watch.growth < ROOM
    assert watch.worst_s < AT_ONCE_S


def test_an_item_of_a_bulk_write(served: Process) -> None:
    """Bulk bodies are read item by item; one item can't be made of millions of values."""
    path = served.url + values_of(served).removesuffix("/values") + "/bulk"
    item = b'{"key":"a","value":"v","metadata":[' + b"[]," * 4_000_000 + b"1]}"
    with Watch(served) as watch:
        found = httpx.put(path, headers=HEADERS, content=b"[" + item + b"]", timeout=120)
        assert found.status_code in (400, 413), found.text
    assert watch.growth < ROOM
    assert watch.worst_s < AT_ONCE_S


def test_pipelined_requests_wait_for_each_other(served: Process) -> None:
    """What comes behind a request that is being answered is not looked at, and is bounded."""
    flood = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 4000
    with Watch(served) as watch, closing(connected(served.url, timeout=3)) as connection:
        connection.sendall(head("GET", "/v1/live"))
        with suppress(OSError):
            sent(connection, flood, 1000)
    assert watch.growth < ROOM
    assert watch.worst_s < AT_ONCE_S


def test_answers_that_nobody_takes(served: Process) -> None:
    """A flood of small requests for a large value makes no large answer."""
    path = f"{values_of(served)}/large"
    httpx.put(served.url + path, headers=HEADERS, content=b"x" * 65_000).raise_for_status()
    request = head("GET", path)
    with Watch(served) as watch:
        connections = [connected(served.url, timeout=0.5) for _ in range(20)]
        for connection in connections:
            with suppress(OSError):
                connection.sendall(request * (500_000 // len(request)))
        for connection in connections:
            connection.close()
    assert watch.growth < ROOM


def test_bodies_in_memory() -> None:
    """All bodies together, and those of a token, take up no more than is allowed."""
    with running(bodies_bytes=4 * MEBIBYTE, spooled_bytes=8 * MEBIBYTE) as server:
        namespace = server.namespace_id("kv")
        path = f"{NAMESPACES}/{namespace}/values/k"
        size = b"Content-Length: %d" % MEBIBYTE
        uploads = []
        for _ in range(5):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(head("PUT", path, size, b"Expect: 100-continue"))
            uploads.append((connection, connection.recv(4096).split(b" ")[1]))
        # Who is told to go on has its share, before any of the body has come.
        assert [status for _, status in uploads] == [b"100", b"100", b"429", b"429", b"429"]
        for connection, status in uploads:
            if status == b"100":
                connection.sendall(b"x" * MEBIBYTE)
                assert connection.recv(4096).split(b" ")[1] == b"200"
            connection.close()
        assert server.http.put(path, content=b"x" * MEBIBYTE).status_code == 200  # given back
        refused = server.http.put(path, content=b"x" * 8 * MEBIBYTE)
        assert refused.status_code == 429
        assert "temporary files" in refused.text
        assert server.http.put(path, content=b"x" * 3 * MEBIBYTE).status_code == 200


def test_requests_of_a_token() -> None:
    with running(requests_per_token=5) as server:
        path = f"{NAMESPACES}/{server.namespace_id('kv')}/values/k"
        slow = []
        for _ in range(5):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(head("PUT", path, b"Content-Length: 9"))
            slow.append(connection)
        wait_for(lambda: server.http.put(path, content=b"v").status_code == 429)
        refused = server.http.put(path, content=b"v")
        assert refused.headers["retry-after"] == "1"
        assert server.http.get("/health").status_code == 200
        secret = server.http.post("/v1/tokens", json={"name": "other", "write": True})
        assert secret.status_code == 429
        for connection in slow:
            connection.close()
        wait_for(lambda: server.http.put(path, content=b"v").status_code == 200)


def test_connections() -> None:
    """Of one address there are half as many as of all; who is too many is told so."""
    with running(connections=8) as server:
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(4)]
        for connection in held:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        extra = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        assert answer_of(extra).startswith(b"HTTP/1.1 503 ")
        held.pop().close()
        wait_for(lambda: httpx.get(f"{server.url}/health").status_code == 200)
        for connection in (*held, extra):
            connection.close()


def test_streams_of_a_token(tmp_path: Path) -> None:
    """1,000 watches of one token leave room for other tokens, and for the log."""
    with serving(tmp_path / "data") as server:
        server.wait_until_ready()
        namespace = namespace_of(server)
        body = pack([[], {}])
        size = b"Content-Length: %d" % len(body)
        request = head("POST", f"/v1/ns/{namespace}/watch", size) + body
        made = httpx.post(f"{server.url}/v1/tokens", headers=HEADERS, json={"name": "other"})
        other = {"authorization": f"Bearer {made.json()['secret']}"}
        streams = []
        with Watch(server) as watch:
            statuses = []
            for _ in range(300):
                connection = connected(server.url)
                connection.sendall(request)
                streams.append(connection)
                statuses.append(connection.recv(64).split(b" ")[1])
            assert statuses == [b"200"] * 100 + [b"429"] * 200
            with httpx.Client(base_url=server.url, timeout=30) as client:
                for path, headers in (
                    (f"/v1/ns/{namespace}/watch", other), ("/v1/log?follow=1", HEADERS)
                ):  # fmt: skip
                    method = "GET" if path.startswith("/v1/log") else "POST"
                    with client.stream(method, path, headers=headers, content=body) as stream:
                        assert stream.status_code == 200
                        assert next(stream.iter_raw())
                values = values_of(server)
                assert client.put(f"{values}/k", headers=HEADERS, content=b"v").is_success
        assert watch.worst_s < AT_ONCE_S
        for connection in streams:
            connection.close()
        with httpx.Client(base_url=server.url, timeout=30) as client:

            def can_watch() -> bool:
                path = f"/v1/ns/{namespace}/watch"
                with client.stream("POST", path, headers=HEADERS, content=body) as stream:
                    return stream.status_code == 200

            wait_for(can_watch)


def test_slow_clients() -> None:
    """Heads, bodies and answers that do not go on are cut off; also a body that nobody wants."""
    with running(head_timeout_s=0.5, body_timeout_s=0.5, write_timeout_s=0.5) as server:
        namespace = server.namespace_id("kv")
        path = f"{NAMESPACES}/{namespace}/values"
        server.db.namespace_by_id(namespace).put("large", b"x" * 20 * MEBIBYTE)
        for data in (b"GET / HTTP/1.1\r\nHost:", head("PUT", f"{path}/k", b"Content-Length: 9")):
            with closing(socket.create_connection(("127.0.0.1", server.port), 30)) as connection:
                connection.sendall(data)
                assert answer_of(connection).startswith(b"HTTP/1.1 408 ")
        with closing(socket.create_connection(("127.0.0.1", server.port), 30)) as connection:
            connection.sendall(head("GET", f"{path}/large"))
            wait_for(lambda: not is_held(connection))  # nothing is read
            assert len(answer_of(connection)) < 20 * MEBIBYTE


def test_a_body_that_is_not_asked_for(served: Process) -> None:
    """Who is refused before it sends its body is not told to send it, and is heard no more."""
    large = (b"Expect: 100-continue", b"Content-Length: 9000000")
    path = f"{values_of(served)}/k"
    with closing(connected(served.url)) as connection:
        connection.sendall(head("PUT", path, *large, token=False))
        found = answer_of(connection)
        assert found.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nconnection: close\r\n" in found
    with closing(connected(served.url)) as connection:
        connection.sendall(head("PUT", path, *large, token=False) + head("GET", path))
        assert answer_of(connection).count(b"HTTP/1.1 ") == 1


def test_forms(served: Process) -> None:
    """A form has two parts, and a part a few headers."""
    part = b'--b\r\ncontent-disposition: form-data; name="value"\r\n' + b"a: b\r\n" * 2_000_000
    headers = {**HEADERS, "content-type": "multipart/form-data; boundary=b"}
    path = f"{served.url}{values_of(served)}/k"
    with Watch(served) as watch:
        found = httpx.put(path, headers=headers, content=part, timeout=120)
        assert found.status_code == 400
        assert "header count" in found.text
        kind = "multipart/form-data" + ";" * 100_000 + "boundary=b"
        found = httpx.put(path, headers={**HEADERS, "content-type": kind}, content=part[:100])
        assert "of at most 1024" in found.text
    assert watch.growth < ROOM
    assert watch.worst_s < AT_ONCE_S
