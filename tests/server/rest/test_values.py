"""Values over the wire: bytes in, the same bytes out; what is wrong with a request is said."""

from __future__ import annotations

import json
import socket
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvengine.server.auth.token_store import TokenStore
from kvengine.server.http import messages
from tests.server.running import ACCOUNT, TOKEN, Running, running

MEBIBYTE = 1 << 20


def path(server: Running, rest: str, account: str = ACCOUNT) -> str:
    here = server.namespace_id("here")
    return f"/client/v4/accounts/{account}/storage/kv/namespaces/{here}/{rest}"


def error(answer: httpx.Response) -> tuple[int, int]:
    envelope = answer.json()
    assert envelope["success"] is False
    assert envelope["result"] is None
    [one] = envelope["errors"]
    assert one["message"]
    return answer.status_code, one["code"]


metadata_values = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda key: key not in (".", "..") and len(key.encode()) <= 512
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    keys,
    st.binary(max_size=300),
    st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.booleans(),
)
def test_every_key_and_value(
    server: Running, key: str, value: bytes, metadata: Any, encode_all: bool
) -> None:
    name = "".join(f"%{byte:02X}" for byte in key.encode()) if encode_all else quote(key, safe="")
    where = path(server, f"values/{name}")
    if metadata is None:
        put = server.http.put(where, content=value)
    else:
        files = {"value": value, "metadata": (None, json.dumps(metadata).encode())}
        put = server.http.put(where, files=files)
    assert put.json() == {"result": {}, "success": True, "errors": [], "messages": []}
    kv = server.db.namespace("here")
    assert kv.get(key, "bytes") == value
    assert kv.get_with_metadata(key, "bytes").metadata == metadata
    hot = server.http.get(where)
    slow = server.http.get(where, headers={"range": "bytes=0-"})  # not answered by the fast path
    assert hot.content == slow.content == value
    assert list(hot.headers.raw) == list(slow.headers.raw)
    assert put.headers["kv-version"] == hot.headers["kv-version"]
    assert server.http.get(path(server, f"metadata/{name}")).json()["result"] == metadata
    assert server.http.delete(where).json()["result"] == {}
    assert kv.get(key) is None


def test_the_fast_path_takes_part(server: Running) -> None:
    server.db.namespace("here").put("k", "v", expiration_ttl=1000)
    where = path(server, "values/k")
    first = server.http.get(where)
    assert server.http.get(where).headers == first.headers
    assert server.hot_reads("rest") == 1  # the first one let the server register the namespace


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, MEBIBYTE, 25 * MEBIBYTE])
def test_sizes(server: Running, size: int) -> None:
    value = bytes(range(256)) * (size // 256 + 1)
    value = value[:size]
    where = path(server, "values/k")
    assert server.http.put(where, content=value).status_code == 200
    answer = server.http.get(where)
    assert answer.content == value
    for found in (answer, server.http.head(where), server.http.get(where)):
        assert found.headers.get_list("content-length") == [str(size)]


def test_a_byte_too_many(server: Running) -> None:
    where = path(server, "values/k")
    server.http.put(where, content=b"before")
    big = b"x" * (25 * MEBIBYTE + 1)
    assert error(server.http.put(where, content=big)) == (413, 10024)
    chunked = server.http.put(where, content=iter([big]))
    assert error(chunked) == (413, 10024)
    assert error(server.http.put(where, files={"value": big})) == (413, 10024)
    assert server.http.get(where).content == b"before"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("x" * 512, None),
        ("x" * 513, (414, 10030)),
        ("%C3%A9" * 256 + "x", (414, 10030)),
        (".", (400, 10042)),
        ("..", (400, 10042)),
        ("%2E%2E", (400, 10042)),
        ("%ED%A0%80", (400, 10042)),
        ("%FF", (400, 10042)),
        ("%zz", (400, 10042)),
        ("%", (400, 10042)),
        ("a%2", (400, 10042)),
        ("", (404, 7003)),
    ],
)
def test_bad_keys(server: Running, key: str, expected: tuple[int, int] | None) -> None:
    where = path(server, f"values/{key}")
    for method in ("PUT", "GET", "DELETE"):
        if expected is None:
            assert raw(server, method, where).status_code == 200
        else:
            assert error(raw(server, method, where)) == expected


def raw(server: Running, method: str, where: str) -> httpx.Response:
    """Send a request whose path no client touches."""
    body = b"v" if method == "PUT" else b""
    head = f"{method} {where} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
    found = server.exchange(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    status, _, rest = found.partition(b"\r\n")
    _, _, content = rest.partition(b"\r\n\r\n")
    return httpx.Response(int(status.split()[1]), content=content)


@pytest.mark.parametrize("key", ["%00", "a%2Fb", "bulk%2Fget", "%252F"])
def test_odd_keys_are_keys(server: Running, key: str) -> None:
    where = path(server, f"values/{key}")
    assert raw(server, "PUT", where).status_code == 200
    assert raw(server, "GET", where).content == b"v"
    assert server.db.namespace("here").count() == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("expiration_ttl=59", (400, 10034)),
        ("expiration_ttl=0", (400, 10034)),
        ("expiration_ttl=-1", (400, 10034)),
        ("expiration_ttl=x", (400, 10034)),
        ("expiration_ttl=60.5", (400, 10034)),
        ("expiration_ttl=60.0", None),
        ("expiration=1", (400, 10033)),
        ("expiration={soon}", (400, 10033)),
        ("expiration=1&expiration_ttl=60", None),
        ("if_version=7", (412, 10900)),
        ("if_version=0", None),
    ],
)
def test_options(server: Running, query: str, expected: tuple[int, int] | None) -> None:
    query = query.format(soon=int(time.time()) + 30)
    answer = server.http.put(path(server, "values/k?" + query), content=b"v")
    if expected is None:
        assert answer.status_code == 200
    else:
        assert error(answer) == expected
        assert server.db.namespace("here").get("k") is None


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"value": "v", "metadata": "[1]"}, [1]),
        ({"metadata": "[1]", "value": "v"}, [1]),
        ({"value": "v", "metadata": ""}, "must be JSON"),
        ({"value": "v"}, None),
        ({"metadata": "1"}, "no part"),
        ({}, "no part"),
        ({"value": "v", "other": "x"}, "may only have the parts"),
        ({"value": "v", "metadata": "{"}, "must be JSON"),
        ({"value": "v", "metadata": "NaN"}, "must be JSON"),
        ({"value": "v", "metadata": json.dumps("x" * 1022)}, "x" * 1022),
        ({"value": "v", "metadata": json.dumps("x" * 1023)}, "Metadata length of 1025"),
        ({"value": "v", "metadata": json.dumps("x" * 99_998)}, "Metadata length of 100000"),
    ],
)
def test_forms(server: Running, parts: dict[str, str], expected: Any) -> None:
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (name.encode(), text.encode())
        for name, text in parts.items()
    )
    answer = server.http.put(
        path(server, "values/k"),
        content=body + b"--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    kv = server.db.namespace("here")
    if answer.status_code == 200:
        assert kv.get("k") == "v"
        assert kv.get_with_metadata("k").metadata == expected
    else:
        error(answer)
        assert expected in answer.json()["errors"][0]["message"]
        assert kv.get("k") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from(["; boundary=b", "", "; boundary=", "; boundary=" + "b" * 300]),
)
def test_no_form_at_all(server: Running, body: bytes, boundary: str) -> None:
    kind = f"multipart/form-data; boundary={boundary}"
    answer = server.http.put(path(server, "values/k"), content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    error(answer)
    assert server.db.namespace("here").get("k") is None


def test_who_may_not(server: Running) -> None:
    store = TokenStore(server.db, ACCOUNT)
    kv = server.db.namespace("here")
    kv.put("k", "v")
    reader, _ = store.create("reader")
    elsewhere, token = store.create(
        "elsewhere", namespaces=[server.db.namespace("there").id], write=True
    )
    where = path(server, "values/k")

    def ask(secret: str | None, method: str = "GET", to: str = where) -> httpx.Response:
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        return httpx.request(method, server.url + to, headers=headers)

    namespaces = where.partition("/values")[0].rpartition("/")[0]
    assert ask(reader).content == b"v"
    for refused in (
        ask(reader, "PUT"), ask(reader, "DELETE"), ask(reader, "POST", namespaces),
        ask(elsewhere), ask(elsewhere, "PUT"), ask(elsewhere, "GET", path(server, "keys")),
        ask(TOKEN, to=path(server, "values/k", "b" * 32)),
    ):  # fmt: skip
        assert error(refused) == (403, 10000)
    for stranger in (ask(None), ask("wrong"), ask("wrong", "PUT")):
        assert error(stranger) == (401, 10000)
    assert [one["title"] for one in ask(elsewhere, to=namespaces).json()["result"]] == ["there"]
    store.revoke(token.id)
    assert error(ask(elsewhere)) == (401, 10000)
    assert kv.get("k") == "v"


def test_a_revoked_token_on_an_open_connection(server: Running) -> None:
    server.db.namespace("here").put("k", "v")
    store = TokenStore(server.db, ACCOUNT)
    secret, token = store.create("reader")
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        for _ in range(3):
            assert client.get(path(server, "values/k")).content == b"v"
        assert server.hot_reads("rest", "workerd") >= 2
        store.revoke(token.id)
        assert error(client.get(path(server, "values/k"))) == (401, 10000)


def test_methods_and_paths(server: Running) -> None:
    assert error(server.http.post(path(server, "values/k"))) == (405, 10405)
    assert error(server.http.patch(path(server, "bulk"))) == (405, 10405)
    assert error(server.http.get(path(server, "nothing"))) == (404, 7003)
    assert error(server.http.get("/client/v4/zones")) == (404, 7003)
    unknown = path(server, "values/k").replace(server.namespace_id("here"), "0" * 32)
    assert error(server.http.get(unknown)) == (404, 10013)
    assert error(server.http.get(unknown.replace("0" * 32, "no-id"))) == (404, 10013)


def test_one_write_a_second() -> None:
    with running(key_write_interval_s=1.0) as server:
        where = path(server, "values/k")
        assert server.http.put(where, content=b"1").status_code == 200
        again = server.http.put(where, content=b"2")
        assert error(again) == (429, 10022)
        assert again.headers["retry-after"] == "1"
        assert server.http.put(path(server, "values/other"), content=b"2").status_code == 200
        assert server.http.get(where).content == b"1"


def test_a_body_that_stops(server: Running) -> None:
    where = path(server, "values/k")
    head = f"PUT {where} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
    for rest in ("content-length: 10\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n5\r\nab"):
        server.raw((head + rest).encode(), end=True)
    assert server.db.namespace("here").get("k") is None
    assert server.http.get("/health").status_code == 200


def test_who_may_change_namespaces(server: Running) -> None:
    store = TokenStore(server.db, ACCOUNT)
    here = server.namespace_id("here")
    base = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
    everywhere, _ = store.create("everywhere", write=True)
    only_here, _ = store.create("only here", write=True, namespaces=["here"])
    reader, _ = store.create("reader")

    def create(secret: str, title: str) -> int:
        headers = {"authorization": f"Bearer {secret}"}
        answer = httpx.post(server.url + base, headers=headers, json={"title": title})
        return answer.status_code

    assert create(everywhere, "new") == 200
    assert create(only_here, "newer") == create(reader, "newer") == 403
    headers = {"authorization": f"Bearer {only_here}"}
    assert httpx.delete(f"{server.url}{base}/{here}", headers=headers).status_code == 403
    assert httpx.get(f"{server.url}{base}/{here}", headers=headers).status_code == 200
    assert {info.title for info in server.db.namespaces()} == {"here", "new"}


def test_a_body_without_end(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "DRAIN_BYTES_MAX", 30 * MEBIBYTE)
    where = path(server, "values/k")
    head = f"PUT {where} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
    found = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        piece = b"100000\r\n" + b"x" * MEBIBYTE + b"\r\n"
        try:
            for _ in range(200):
                connection.sendall(piece)
        except OSError:
            pass  # it was told to stop
        else:
            raise AssertionError("the server takes everything")
        try:
            found = connection.recv(1000)
        except OSError:
            return
    assert not found or found.startswith(b"HTTP/1.1 413 ")
    assert server.db.namespace("here").get("k") is None


@pytest.mark.parametrize(
    "lie",
    ["content-length: -1", "content-length: x", "content-length: 3\r\ncontent-length: 4",
     "transfer-encoding: chunked\r\n\r\nzz", "content-length: 99999999999999999999999"],
)  # fmt: skip
def test_lies_about_length(server: Running, lie: str) -> None:
    where = path(server, "values/k")
    head = f"PUT {where} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
    found = server.raw((head + lie + "\r\n\r\nabc").encode(), end=True)
    assert not found.startswith(b"HTTP/1.1 200")
    assert server.db.namespace("here").get("k") is None


def test_pipelined_requests(server: Running) -> None:
    kv = server.db.namespace("here")
    kv.put("a", "A")
    head = f"HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
    get = f"GET {path(server, 'values/a')} {head}\r\n"
    put = f"PUT {path(server, 'values/b')} {head}content-length: 1\r\n\r\nB"
    read = f"GET {path(server, 'values/b')} {head}\r\n"
    for _ in range(2):  # the second time the fast path takes part
        found = server.raw((get + get + put + read + get).encode())
        assert [part[-1:] for part in found.split(b"HTTP/1.1 200 OK\r\n")[1:]] == [
            b"A", b"A", b"}", b"B", b"A"
        ]  # fmt: skip


def test_a_head_without_end(server: Running) -> None:
    found = server.raw(b"GET / HTTP/1.1\r\n" + b"x-filler: " + b"y" * (300 << 10))
    assert found.startswith(b"HTTP/1.1 431 ")


def test_a_client_that_leaves(server: Running) -> None:
    server.http.put(path(server, "values/big"), content=b"x" * (8 * MEBIBYTE))
    where = path(server, "values/big")
    head = f"GET {where} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode())
            connection.recv(1000)
    assert server.http.get(path(server, "values/big")).status_code == 200


def test_slow_clients_are_cut_off() -> None:
    with running(head_timeout_s=0.2, body_timeout_s=0.2, idle_timeout_s=0.2) as server:
        where = path(server, "values/k")
        head = f"PUT {where} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
        for data in (b"GET / HT", f"{head}content-length: 9\r\n\r\nab".encode(), b""):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(data)
                found = b""
                while piece := connection.recv(1000):
                    found += piece
            assert found[:12] in (b"HTTP/1.1 408", b"")
            assert bool(found) == bool(data)
        assert server.db.namespace("here").get("k") is None
