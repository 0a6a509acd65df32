"""Bodies as they come: what is data, what is counted and dropped, where the next request begins."""

from __future__ import annotations

import random

import pytest

from kvengine.server.http.framing import EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX, Body
from tests.server.processes import BEARER, NAMESPACES, head
from tests.server.running import ACCOUNT, Running

CHUNKED = b"Transfer-Encoding: chunked"
TWICE = b"5\r\nhello\r\n3;name=value\r\nabc\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n"


def fed(body: Body, data: bytes, sizes: list[int]) -> tuple[bytes, int]:
    """Return the data of a body that comes in pieces, and how many bytes belonged to it."""
    found, at = b"", 0
    while at < len(data) and not body.ended:
        size = sizes.pop() if sizes else len(data)
        found += body.feed(data[at : at + size])
        at += body.used
    return found, at


def test_chunks_in_any_pieces() -> None:
    chance = random.Random(5)
    for _ in range(300):
        sizes = [chance.randint(1, 9) for _ in range(chance.randint(0, 80))]
        body = Body(-1)
        assert fed(body, TWICE + b"GET / HTTP/1.1", sizes) == (b"helloabc", len(TWICE))
        assert body.ended


def test_a_length() -> None:
    body = Body(4)
    assert body.feed(b"ab") == b"ab"
    assert not body.ended
    assert body.feed(b"cdef") == b"cd"
    assert (body.ended, body.used) == (True, 2)
    assert Body(0).ended


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n", b"x\r\n", b"-1\r\n", b"+5\r\nhello", b"5\nhello", b"5\r\r\nhello", b"0x5\r\n",
        b"5\r\nhelloX", b"5\r\nhello\n", b"5\r\nhello\r\r", b"0\r\n\n", b"0\r\na\x00\r\n\r\n",
        b"0\r\na: b\n\r\n", b"5;\x01\r\n", b"5;a\nb\r\n", b"5 5\n", b"5 x\r\n",
        b"5\t5\r\n", b"1" * 16,
    ],
)  # fmt: skip
def test_what_is_no_body(data: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Body(-1).feed(data)


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (b"Host: a\r\n", b"200"), (b"Host: [::1]:80\r\n", b"200"), (b"Host:\r\n", b"200"),
        (b"", b"400"), (b"Host: a\r\nHost: a\r\n", b"400"), (b"Host:\r\nHost: a\r\n", b"400"),
        (b"Host: a b\r\n", b"400"), (b"Host: u@a\r\n", b"400"), (b"Host: a/b\r\n", b"400"),
        (b"Host: a\r\nX: y\r\nhOST: b\r\n", b"400"),
    ],
)  # fmt: skip
def test_a_request_has_one_host(server: Running, hosts: bytes, status: bytes) -> None:
    namespace = server.db.namespace("hosts")
    namespace.put("k", "v")
    path = f"{NAMESPACES}/{namespace.id}/values/k"
    server.http.get(path)  # reads of it are answered on the fast path now
    for place in ("/health", path):
        start = f"GET {place} HTTP/1.1\r\n".encode() + BEARER
        assert server.exchange(start + hosts + b"\r\n").split(b" ")[1] == status
        old = start.replace(b"HTTP/1.1", b"HTTP/1.0")  # need not say one
        expected = status if hosts else b"200"
        assert server.exchange(old + hosts + b"\r\n").split(b" ")[1] == expected


def test_extensions_and_trailers_are_counted() -> None:
    body = Body(-1)
    body.feed(b"1;" + b"e" * (EXTENSION_BYTES_MAX - 1) + b"\r\nx\r\n")
    with pytest.raises(OverflowError):
        body.feed(b"1;\r\n")
    for line in (b"a: b\r\n", b"a", b"a\r\n"):
        body = Body(-1)
        body.feed(b"0\r\n")
        with pytest.raises(OverflowError):
            for _ in range(TRAILER_BYTES_MAX + 1):
                body.feed(line)


def test_trailers_say_nothing(server: Running) -> None:
    """A token or a namespace in a trailer opens nothing; others are allowed, and dropped."""
    namespace = server.namespace_id("kv")
    path = f"{NAMESPACES}/{namespace}/values/k"
    body = b"1\r\nv\r\n0\r\n%s\r\n"
    refused = server.exchange(head("PUT", path, CHUNKED, token=False) + body % BEARER)
    assert refused.startswith(b"HTTP/1.1 401 ")
    named = head("PUT", "/k?urlencoded=true", CHUNKED)
    answer = server.exchange(named + body % b"KV-Namespace: %s\r\n" % namespace.encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert server.db.namespace_by_id(namespace).get("k") is None
    trailer = b"Expires: 0\r\nContent-Length: 3\r\n"
    assert server.exchange(head("PUT", path, CHUNKED) + body % trailer).startswith(b"HTTP/1.1 200 ")
    assert server.db.namespace_by_id(namespace).get("k") == "v"


def test_other_codings_are_not_understood(server: Running) -> None:
    path = f"/workerd/{ACCOUNT}/{server.namespace_id('kv')}/k?urlencoded=true"
    for coding in (b"gzip, chunked", b"chunked, gzip", b"identity", b"gzip"):
        answer = server.raw(head("PUT", path, b"Transfer-Encoding: " + coding) + b"0\r\n\r\n")
        assert answer.split(b" ")[1] in (b"400", b"501"), coding
    assert server.raw(head("PUT", path, CHUNKED, b"Content-Length: 5") + b"0\r\n\r\n").startswith(
        b"HTTP/1.1 400 "
    )


def test_what_follows_a_body_is_the_next_request(server: Running) -> None:
    """Pipelined, in pieces of any size: each request has its own answer, in order."""
    path = f"/workerd/{ACCOUNT}/{server.namespace_id('kv')}"
    data = head("PUT", f"{path}/a?urlencoded=true", CHUNKED) + TWICE
    data += head("GET", f"{path}/a?urlencoded=true")
    data += head("PUT", f"{path}/b?urlencoded=true", b"Content-Length: 3") + b"GET"
    data += head("GET", f"{path}/b?urlencoded=true") + head("GET", f"{path}/c?urlencoded=true")
    found = server.raw(data)
    assert [line.split(b" ")[1] for line in found.split(b"HTTP/1.1")[1:]] == [
        b"200", b"200", b"200", b"200", b"404"
    ]  # fmt: skip
    assert found.index(b"\r\n\r\nhelloabc") < found.index(b"\r\n\r\nGET") < found.index(b"404")
