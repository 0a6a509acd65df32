"""Hot reads, without a server: whatever bytes come, what is answered is right or left alone."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvengine.errors import NamespaceNotFound
from kvengine.server.auth.access import Principal
from kvengine.server.auth.tokens import Token
from kvengine.server.http.head import Headers
from kvengine.server.http.hot import HOT_WORDS, VALUE_BYTES_MAX, HotConnection, HotEndpoint
from tests.server.buckets import allowance

ACCOUNT, NAMESPACE = "a" * 32, "0" * 32
HEAD = b"Host: x\r\nAuthorization: Bearer good\r\n"
REST = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{NAMESPACE}/values/".encode()
VALUES: dict[str, Any] = {
    "key": (b"value", b"", None, 7, None),
    "a/b": (b"slash", b'{"m":1}', 1_900_000_000.0, 2**63, "HIT"),
    "large": (b"x" * (VALUE_BYTES_MAX + 1), b"", None, 1, None),
    "view": (memoryview(b"x"), b"", None, 1, None),
    "line": (b"v", b'"\n"', None, 1, None),
    "blocked": object(),
}


class Reader:
    _meter = SimpleNamespace(reads=0, bytes_out=0)

    def _try_read(self, key: str) -> Any:
        if key == "gone":
            raise NamespaceNotFound("gone")
        return VALUES.get(key)


class FakeAccess:
    def __init__(self) -> None:
        self.revoked = False
        token = Token("id", "name", ACCOUNT, (NAMESPACE,))
        self.principal = Principal(token, allowance(None), b"record")

    def is_still(self, principal: Principal) -> bool:
        assert principal is self.principal
        return not self.revoked

    def principal_at_hand(self, header: bytes | None) -> Principal | None:
        return self.principal if header == b"Bearer good" and not self.revoked else None


def connection(**options: Any) -> HotConnection:
    endpoint = HotEndpoint(
        ACCOUNT,
        options.get("access") or FakeAccess(),
        lambda: 0.0,
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        bytearray(HOT_WORDS * 8),
    )
    endpoint.register(NAMESPACE, Reader())
    return HotConnection(endpoint, options.get("descriptor", -1))


def get(path: bytes, head: bytes = HEAD) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + head + b"\r\n"


def answered(data: bytes, **options: Any) -> tuple[bytes, int]:
    hot = connection(**options)
    found = hot.answer(data, False)
    return found, hot.size


def test_a_value() -> None:
    found, size = answered(get(REST + b"key"))
    assert size == len(get(REST + b"key"))
    assert found == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 5\r\n"
        b"x-content-type-options: nosniff\r\nkv-version: 7\r\n\r\nvalue"
    )


def test_all_that_is_known_of_a_value() -> None:
    head = HEAD + b"KV-Namespace: " + NAMESPACE.encode() + b"\r\n"
    found, _ = answered(get(b"/a%2Fb?urlencoded=true", head))
    assert found == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 5\r\n"
        b"kv-version: 9223372036854775808\r\ncf-expiration: 1900000000\r\n"
        b'cf-cache-status: HIT\r\ncf-kv-metadata: {"m":1}\r\n\r\nslash'
    )


WORKERD = f"/workerd/{ACCOUNT}/{NAMESPACE}/".encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /",
        get(REST + b"key")[:-1],
        get(REST),
        get(REST + b"gone"),
        get(REST + b"large"),
        get(REST + b"view"),
        get(REST + b"blocked"),
        get(REST + b"a/b"),
        get(REST + b"%zz"),
        get(REST + b"%f"),
        get(REST + b"%FF"),
        get(REST + b"key?x=1"),
        get(REST + b"k" * 4000),
        get(REST.replace(b"000", b"111") + b"key"),
        get(REST.replace(b"aaa", b"bbb") + b"key"),
        get(REST + b"key").replace(b"1.1", b"1.0"),
        get(REST + b"key").replace(b"GET", b"PUT"),
        get(REST + b"k\xc3\xa9y"),
        get(REST + b"key", b"Authorization: Bearer bad\r\n"),
        get(REST + b"key", b"Host: x\r\n"),
        get(WORKERD + b"key"),
        get(WORKERD + b"key?urlencoded=true&cache_ttl=60"),
        get(WORKERD + b"line?urlencoded=true"),
        get(WORKERD + b"?urlencoded=true"),
        get(WORKERD[:-1] + b"?urlencoded=true"),
        *(
            get(REST + b"key", HEAD + more + b"\r\n")
            for more in (
                b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: close",
                b"Expect: 100-continue", b"Range: bytes=0-1", b"If-None-Match: x", b"Upgrade: h2c",
                b"X-Auth-Key: x", b"Authorization: Bearer good", b" folded", b"no colon",
                b"a b: c", b"x: a\x00b", b": x",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_left_to_the_endpoints(data: bytes) -> None:
    assert answered(data) == (b"", 0)


@given(st.lists(st.sampled_from([REST + b"key", WORKERD + b"a%2Fb?urlencoded=true"]), max_size=6))
def test_pipelined_requests(paths: list[bytes]) -> None:
    data = b"".join(map(get, paths))
    found, size = answered(data + b"PUT / HTTP/1.1\r\n")
    assert size == len(data)
    assert found == b"".join(answered(get(path))[0] for path in paths)


@given(st.binary(max_size=200), st.integers(0, 300), st.binary(max_size=3))
@example(b"", 4, b"")
def test_any_bytes(noise: bytes, at: int, change: bytes) -> None:
    """Changed requests are answered as the right one, for the right key, or not at all."""
    right = get(REST + b"key")
    data = right[:at] + change + right[at + len(change) :]
    for piece in (noise, data, data + noise):
        found, size = answered(piece)
        assert 0 <= size <= len(piece)
        assert bool(found) == bool(size)
        if found:
            assert found.startswith(b"HTTP/1.1 200 OK") or b"404" in found[:12]
            assert piece[:size].endswith(b"\r\n\r\n")


def test_a_revoked_token() -> None:
    access = FakeAccess()
    hot = connection(access=access)
    data = get(REST + b"key")
    assert hot.answer(data, False)
    assert hot.answer(data, False)
    access.revoked = True
    assert hot.answer(data, False) == b""
    access.revoked = False
    assert hot.answer(data, False)


def test_a_token_that_asks_too_often() -> None:
    access = FakeAccess()
    access.principal.allowance = allowance(1)
    hot = connection(access=access)
    assert hot.answer(get(REST + b"key"), False)
    assert hot.answer(get(REST + b"key"), False) == b""


def test_what_a_socket_does_not_take_is_handed_back() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        hot = connection(descriptor=near.fileno())
        data = get(REST + b"key")
        whole = answered(data)[0]
        sent = 0
        while not (rest := hot.answer(data, True)):
            sent += len(whole)
        sent += len(whole) - len(rest)
        assert hot.size == len(data)
        assert whole.endswith(rest)
        near.shutdown(socket.SHUT_WR)
        got = b""
        while piece := far.recv(1 << 16):
            got += piece
        assert len(got) == sent
        assert (got + rest) == whole * (len(got + rest) // len(whole))


def test_headers_say_what_they_are() -> None:
    headers = Headers(HEAD + b"\r\n")
    assert headers.is_hot
    assert headers.authorization == b"Bearer good"
    assert headers.namespace_id is None
    assert headers.block == HEAD + b"\r\n"
