"""workerd's protocol as bytes: what it sends, and what a program in a Worker would hear."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.running import ACCOUNT, TOKEN, Running, running

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda key: key not in (".", "..") and len(key.encode()) <= 512
)


def ask(
    server: Running, line: str, *headers: str, body: bytes = b"", prefix: bool = False
) -> tuple[str, dict[str, bytes], bytes]:
    """Send a request; return the status line, the headers and the body of its answer."""
    here = server.namespace_id("here")
    method, _, target = line.partition(" ")
    if prefix:
        target = f"/workerd/{ACCOUNT}/{here}{target}"
    else:
        headers = (*headers, f"KV-Namespace: {here}")
    if method in ("PUT", "POST"):
        headers = (*headers, f"Content-Length: {len(body)}")
    head = "\r\n".join([f"Host: fake-host\r\nAuthorization: Bearer {TOKEN}", *headers])
    found = server.exchange(f"{method} {target} HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
    start, _, content = found.partition(b"\r\n\r\n")
    status, *lines = start.split(b"\r\n")
    pairs = (line.split(b": ", 1) for line in lines)
    return status.decode("latin-1"), {name.decode(): value for name, value in pairs}, content


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(keys, st.binary(max_size=50), st.booleans(), st.sampled_from(["", "!$&'()*+,;:=@[]^|~"]))
def test_both_encodings(server: Running, key: str, value: bytes, prefix: bool, safe: str) -> None:
    name = quote(key, safe=safe)
    kv = server.db.namespace("here")
    status, headers, _ = ask(
        server,
        f"PUT /{name}?urlencoded=true",
        'CF-KV-Metadata: {"a":"🤓"}',
        body=value,
        prefix=prefix,
    )
    assert status == "HTTP/1.1 200 OK"
    version = headers["kv-version"]
    assert kv.get(key, "bytes") == value
    hot = ask(server, f"GET /{name}?urlencoded=true", prefix=prefix)
    slow = ask(server, f"GET /{name}?urlencoded=true", "TE: trailers", prefix=prefix)
    assert hot == slow
    assert hot == ("HTTP/1.1 200 OK", hot[1], value)
    assert hot[1]["cf-kv-metadata"] == '{"a":"🤓"}'.encode()
    assert hot[1]["kv-version"] == version
    assert ask(server, f"DELETE /{quote(key, safe='')}?urlencoded=true", prefix=prefix)[
        0
    ].startswith("HTTP/1.1 2")
    assert ask(server, f"GET /{name}?urlencoded=true") == ask(
        server, f"GET /{name}?urlencoded=true", "TE: trailers"
    )
    assert kv.get(key) is None


def test_the_fast_path_takes_part(server: Running) -> None:
    server.db.namespace("here").put("k", "v")
    for _ in range(2):
        assert ask(server, "GET /k?urlencoded=true")[2] == b"v"
        assert ask(server, "GET /absent?urlencoded=true")[0] == "HTTP/1.1 404 Not Found"
    assert server.hot_reads("rest", "workerd") == 1
    assert server.hot_reads("workerd absent") == 2


LONG = "x" * 513


@pytest.mark.parametrize(
    ("line", "headers", "size", "reason"),
    [
        ("GET /%?urlencoded=true", (), 0, "400 Could not URL-decode key name"),
        ("GET /%ED%A0%80?urlencoded=true", (), 0, "400 Could not URL-decode key name"),
        ("GET /.?urlencoded=true", (), 0, '400 Illegal key name ".". Please use a different name.'),
        ("GET /%2E%2E?urlencoded=true", (), 0, '400 Illegal key name "..". Please use a different name.'),
        (f"GET /{LONG}?urlencoded=true", (), 0, "414 UTF-8 encoded length of 513 exceeds key length limit of 512."),
        ("PUT /?urlencoded=true", (), 1, "400 Key names must not be empty"),
        ("GET /a/b?urlencoded=true", (), 0, "400 Key names must be percent-encoded, slashes too"),
        ("GET /k?urlencoded=true&cache_ttl=29", (), 0, "400 Invalid cache_ttl of 29. Cache TTL must be at least 30."),
        ("PUT /k?urlencoded=true&expiration_ttl=0&expiration=1", (), 1,
         "400 Invalid expiration_ttl of 0. Please specify integer greater than 0."),
        ("PUT /k?urlencoded=true&expiration_ttl=59", ("CF-KV-Metadata: " + '"' * 2000,), 1,
         "400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60."),
        ("PUT /k?urlencoded=true&expiration=1", (), 1,
         "400 Invalid expiration of 1. Please specify integer greater than the current number of seconds since the UNIX epoch."),
        ("PUT /k?urlencoded=true", ("CF-KV-Metadata: " + '"' * 1025,), (25 << 20) + 1,
         "413 Metadata length of 1025 exceeds limit of 1024."),
        ("PUT /k?urlencoded=true", ("CF-KV-Metadata: undefined",), 1, "400 Metadata must be JSON in UTF-8."),
        ("PUT /k?urlencoded=true", (), (25 << 20) + 5, "413 Value length of 26214405 exceeds limit of 26214400."),
        ("GET /?key_count_limit=1001", (), 0, "400 Invalid key_count_limit of 1001. Please specify an integer less than 1000."),
        ("GET /?key_count_limit=0", (), 0, "400 Invalid key_count_limit of 0. Please specify an integer greater than 0."),
        (f"GET /?prefix={LONG}", (), 0, "414 UTF-8 encoded length of 513 exceeds key length limit of 512."),
        ("PATCH /k?urlencoded=true", (), 0, "405 Method Not Allowed"),
    ],
)  # fmt: skip
def test_reasons(server: Running, line: str, headers: Any, size: int, reason: str) -> None:
    for prefix in (False, True):
        status, _, body = ask(server, line, *headers, body=b"x" * size, prefix=prefix)
        assert status == f"HTTP/1.1 {reason}"
        assert body.decode() == reason.partition(" ")[2] + "\n"
    assert server.db.namespace("here").count() == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"keys": [], "type": "x"}, '400 "x" is not a valid type. Use "json" or "text"'),
        ({"keys": [LONG] * 101}, "400 You can request a maximum of 100 keys"),
        ({"keys": []}, "400 You must request a minimum of 1 key"),
        ({"keys": ["a", ""]}, "400 Key names must not be empty"),
        ({"keys": ["a"], "cacheTtl": "29"}, "400 Invalid cache_ttl of 29. Cache TTL must be at least 30."),
        ({"keys": ["text"], "type": "json"}, "400 At least one of the requested keys corresponds to a non-json value"),
        ({"keys": ["b1", "b2"]}, "413 Total size of request exceeds the limit of 25MB"),
        ([], '400 the body must be an object such as {"keys": ["a", "b"]}'),
    ],
)  # fmt: skip
def test_reasons_of_bulk(server: Running, body: Any, reason: str) -> None:
    kv = server.db.namespace("here")
    kv.put("text", "no json")
    for name in ("b1", "b2"):
        kv.put(name, b"x" * (13 << 20))
    found = ask(server, "POST /bulk/get", body=json.dumps(body).encode())
    assert found[0] == f"HTTP/1.1 {reason}"


def test_the_key_bulk_get(server: Running) -> None:
    ask(server, "PUT /bulk%2Fget?urlencoded=true", body=b"v")
    assert ask(server, "GET /bulk%2Fget?urlencoded=true")[2] == b"v"
    assert server.db.namespace("here").get("bulk/get") == "v"


def test_a_list_without_a_slash(server: Running) -> None:
    server.db.namespace("here").put("k", "v", metadata="text")
    for line in ("GET ", "GET /", "GET ?prefix=k", "GET /?prefix=&cursor="):
        _, _, body = ask(server, line, prefix=True)
        expected = {"keys": [{"name": "k", "metadata": '"text"'}], "list_complete": True}
        assert json.loads(body) == expected


def test_who_may_not(server: Running) -> None:
    here = server.namespace_id("here")
    head = f"Host: x\r\nKV-Namespace: {here}\r\n\r\n"
    assert server.exchange(f"GET /k?urlencoded=true HTTP/1.1\r\n{head}".encode()).startswith(
        b"HTTP/1.1 401 missing or invalid token"
    )
    other = server.exchange(
        f"GET /workerd/other/{here}/k?urlencoded=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    assert other.startswith(b"HTTP/1.1 403 this server belongs to another account")


def test_one_write_a_second() -> None:
    with running(key_write_interval_s=1.0) as server:
        assert ask(server, "PUT /k?urlencoded=true", body=b"1")[0] == "HTTP/1.1 200 OK"
        status, headers, _ = ask(server, "PUT /k?urlencoded=true", body=b"2")
        assert status == "HTTP/1.1 429 Too Many Requests"
        assert headers["retry-after"] == b"1"
