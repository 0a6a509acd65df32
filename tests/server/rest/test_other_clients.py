"""What clients other than the ones that run in tests send, from public reports (K1 to K7)."""

import base64
import json
import socket
import time

import pytest

from tests.server.rest.test_values import error, path
from tests.server.running import TOKEN

BOUNDARY = "xyz"


def form(*parts, preamble=b"", blanks=b""):
    """Return a multipart body; each part is (name, value)."""
    body = preamble
    for name, value in parts:
        body += b"--" + BOUNDARY.encode() + blanks + b"\r\n"
        body += b'Content-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
    return body + b"--" + BOUNDARY.encode() + b"--" + blanks + b"\r\n"


def put_form(server, key, body):
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return server.http.put(path(server, f"values/{key}"), content=body, headers=kind)


def metadata(server, key):
    return server.http.get(path(server, f"metadata/{key}")).json()["result"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("metadata[author]", b"Ada")], {"author": "Ada"}),
        ([("metadata[a][b]", b"1"), ("metadata[a][c]", b"")], {"a": {"b": "1", "c": ""}}),
        ([("metadata[tags][]", b"x"), ("metadata[tags][]", b"y")], {"tags": ["x", "y"]}),
        ([("metadata[ö]", "ü".encode())], {"ö": "ü"}),
    ],
)
@pytest.mark.parametrize("value_first", [True, False])
def test_metadata_in_fields_of_the_form(server, fields, expected, value_first):
    """cloudflare-typescript#2664: the SDK sends an object as one part for each field."""
    value = [("value", b"v")]
    parts = value + fields if value_first else fields + value
    assert put_form(server, "k1", form(*parts)).json()["success"]
    assert metadata(server, "k1") == expected
    assert server.http.get(path(server, "values/k1")).content == b"v"


@pytest.mark.parametrize(
    "fields",
    [
        [("metadata[]", b"1")],
        [("metadata[a", b"1")],
        [("metadata[a]b", b"1")],
        [("metadata[a][][b]", b"1")],
        [("metadata[a]", b"1"), ("metadata[a]", b"2")],
        [("metadata[a]", b"1"), ("metadata[a][b]", b"2")],
        [("metadata[a][b]", b"1"), ("metadata[a]", b"2")],
        [("metadata[a][]", b"1"), ("metadata[a]", b"2")],
        [("metadata[a]", b"1"), ("metadata", b"{}")],
        [("metadata", b"{}"), ("metadata[a]", b"1")],
        [("metadata[a]", b"\xff")],
        [("metadata" + "[a]" * 40, b"1")],
        [(f"metadata[{n}]", b"") for n in range(1100)],
        [("author", b"Ada")],
    ],
)
def test_ambiguous_fields_are_refused(server, fields):
    answer = put_form(server, "k1-bad", form(("value", b"v"), *fields))
    assert error(answer)[0] == 400
    assert server.http.get(path(server, "values/k1-bad")).status_code == 404


def test_metadata_in_fields_is_limited_as_any_other(server):
    answer = put_form(server, "k1-large", form(("value", b"v"), ("metadata[a]", b"x" * 1100)))
    assert error(answer)[0] == 413
    assert server.http.get(path(server, "values/k1-large")).status_code == 404


def test_unknown_fields_of_a_pair_are_ignored(server):
    pair = {"key": "k2", "value": "v", "kind": "text", "note": {"a": 1}}
    answer = server.http.put(path(server, "bulk"), json=[pair])
    assert answer.json()["result"]["successful_key_count"] == 1
    assert server.http.get(path(server, "values/k2")).text == "v"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Auth-Email": "a@example.com", "X-Auth-Key": TOKEN},
        {"X-Auth-User-Service-Key": TOKEN},
    ],
)
@pytest.mark.parametrize("where", ["accounts", "memberships", "user", "user/tokens/verify", None])
def test_older_headers_work_everywhere(server, headers, where):
    at = path(server, "keys") if where is None else f"/client/v4/{where}"
    headers = {"Authorization": "", **headers}
    request = server.http.build_request("GET", at, headers=headers)
    del request.headers["Authorization"]
    assert server.http.send(request).json()["success"]
    wrong = {name: "wrong" for name in headers if name != "Authorization"}
    request.headers.update(wrong)
    assert server.http.send(request).status_code == 401


def test_older_headers_work_for_analytics(server):
    query = {"query": '{ viewer { accounts(filter: {accountTag: "x"}) { __typename } } }'}
    request = server.http.build_request(
        "POST", "/client/v4/graphql", json=query, headers={"X-Auth-Key": TOKEN}
    )
    del request.headers["Authorization"]
    assert server.http.send(request).status_code == 200


@pytest.mark.parametrize("key", ["a/b", "a//b", "/a", "a/", "//", "a/b/c.txt"])
def test_slashes_of_a_key_need_not_be_encoded(server, key):
    assert server.http.put(path(server, f"values/{key}"), content=b"1").json()["success"]
    assert server.db.namespace("here").get(key) == "1"
    assert server.http.get(path(server, f"values/{key}")).content == b"1"
    encoded = key.replace("/", "%2F")
    assert server.http.get(path(server, f"values/{encoded}")).content == b"1"
    assert server.http.delete(path(server, f"values/{key}")).json()["success"]
    assert server.db.namespace("here").get(key) is None


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_base64_with_line_breaks(server, line_end):
    value = bytes(range(256))
    text = base64.encodebytes(value).decode().replace("\n", line_end)
    pair = {"key": "k6", "value": text, "base64": True}
    assert server.http.put(path(server, "bulk"), json=[pair]).json()["success"]
    assert server.http.get(path(server, "values/k6")).content == value
    bad = server.http.put(path(server, "bulk"), json=[pair | {"value": "A B="}])
    assert error(bad)[0] == 400


def test_empty_metadata_is_no_json(server):
    answer = put_form(server, "k6-empty", form(("value", b"v"), ("metadata", b"")))
    assert error(answer)[0] == 400
    assert "JSON" in answer.json()["errors"][0]["message"]
    assert server.http.get(path(server, "values/k6-empty")).status_code == 404


@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"this is ignored\r\n", b"--xy\r\n\r\n"])
@pytest.mark.parametrize("blanks", [b"", b" ", b"\t  "])
def test_forms_as_rfc_2046_allows_them(server, preamble, blanks):
    parts = ("value", b"\r\n--xy\r\n"), ("metadata", json.dumps({"a": 1}).encode())
    answer = put_form(server, "k7", form(*parts, preamble=preamble, blanks=blanks) + b"epilogue")
    assert answer.json()["success"]
    assert server.http.get(path(server, "values/k7")).content == b"\r\n--xy\r\n"
    assert metadata(server, "k7") == {"a": 1}


def test_a_form_byte_by_byte(server):
    body = form(("value", b"v" * 10), ("metadata[a]", b"1"), preamble=b"x\r\n", blanks=b" ")
    pieces = iter([body[n : n + 1] for n in range(len(body))])
    assert put_form(server, "k7-slow", pieces).json()["success"]
    assert metadata(server, "k7-slow") == {"a": "1"}


def test_a_form_without_its_boundary_is_refused(server):
    assert error(put_form(server, "k7-none", b"x" * 100_000))[0] == 400
    assert error(put_form(server, "k7-none", b"--other\r\n\r\n"))[0] == 400


RAW_KEYS = [b"\x7f", "schlüssel".encode(), "日本".encode(), b"a\x7fb%2Fc"]


@pytest.mark.parametrize("raw", RAW_KEYS)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_raw_bytes_in_the_target(server, raw, at):
    """K5: workerd sends the key "\\x7f" as it is; the key is its bytes, decoded once."""
    key = raw.replace(b"%2F", b"/").decode()
    server.db.namespace("here").put(key, "raw")
    where = path(server, "values/").encode() + raw
    head = b"GET " + where + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode()
    request = head + b"\r\n\r\n"
    if at == 0:
        answer = server.exchange(request)
    else:  # the head comes in pieces, cut within the key
        cut = len(where) + 4 - at
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(request[:cut])
            time.sleep(0.05)
            connection.sendall(request[cut:])
            answer = b""
            while not answer.endswith(b"raw") and (piece := connection.recv(1 << 16)):
                answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert answer.endswith(b"raw")


def test_raw_bytes_in_headers_stay_what_they_are(server):
    request = "GET /health HTTP/1.1\r\nHost: x\r\nx-note: ü\r\n\r\n".encode()
    assert server.exchange(request).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\x01 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GE\xffT / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_an_envelope(server, request_bytes):
    head, _, body = server.exchange(request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"connection: close" in head
    assert json.loads(body)["errors"][0]["message"]


def test_a_body_that_is_too_large_is_not_asked_for(server):
    """Expect: 100-continue of a byte too many: the refusal comes instead of the 100."""
    for size, asked in ((25 << 20, True), ((25 << 20) + 1, False)):
        lines = [
            f"PUT {path(server, 'values/k')} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}",
            f"Content-Length: {size}", "Expect: 100-continue", "", "",
        ]  # fmt: skip
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall("\r\n".join(lines).encode())
            first = connection.recv(1 << 16)
        assert first.startswith(b"HTTP/1.1 100" if asked else b"HTTP/1.1 413"), first
