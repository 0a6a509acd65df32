"""Tokens: what each allows, and that a revoked one is useless at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvengine
from kvengine.client.packing import pack
from kvengine.errors import InvalidRequest, KeyNotFound, KvError, NamespaceNotFound
from kvengine.namespace.layout import TOKENS
from kvengine.server.auth import tokens
from kvengine.server.auth.rate import KeyWrites
from kvengine.server.auth.token_remote import RemoteTokens
from kvengine.server.auth.token_store import TokenStore
from kvengine.server.auth.tokens import Token
from kvengine.server.http import messages
from kvengine.testing.clock import ManualClock
from tests.server.buckets import allowance, table
from tests.server.running import ACCOUNT, TOKEN, Running, running


def store_of(server: Running) -> TokenStore:
    return TokenStore(server.db, ACCOUNT)


def status(server: Running, secret: str | None, path: str = "/v1/tokens") -> int:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    return httpx.get(server.url + path, headers=headers).status_code


def test_the_store_never_holds_a_token(server: Running) -> None:
    secret, token = store_of(server).create("ci", write=True)
    assert secret.startswith(tokens.TOKEN_START)
    everything = b"".join(
        entry.key + entry.value + entry.metadata for entry in server.db.store.scan()
    )
    assert secret.encode() not in everything
    assert secret[len(tokens.TOKEN_START) :].encode() not in everything
    assert server.db.store.get(TOKENS + tokens.digest(secret.encode())) == token.encode()


def test_only_who_may_administer_gets_tokens(server: Running) -> None:
    reader, _ = store_of(server).create("reader")
    writer, _ = store_of(server).create("writer", write=True)
    admin, _ = store_of(server).create("admin", admin=True)
    assert status(server, TOKEN) == status(server, admin) == 200
    assert status(server, reader) == status(server, writer) == 403
    assert status(server, None) == status(server, "kve_nobody") == 401


def test_a_revoked_token_is_useless_at_once(server: Running) -> None:
    admin, token = store_of(server).create("admin", admin=True)
    with httpx.Client(headers={"Authorization": f"Bearer {admin}"}) as client:
        assert client.get(f"{server.url}/v1/tokens").status_code == 200
        store_of(server).revoke(token.id)
        assert client.get(f"{server.url}/v1/tokens").status_code == 401
    with pytest.raises(KeyNotFound):
        store_of(server).revoke(token.id)


def test_a_token_of_another_account_is_useless(server: Running) -> None:
    other, _ = TokenStore(server.db, "another").create("admin", admin=True)
    assert status(server, other) == 401


def test_over_http(server: Running) -> None:
    made = server.http.post("/v1/tokens", json={"name": "deploy", "write": True})
    assert made.status_code == 201
    token = made.json()["token"]
    assert token["write"]
    assert not token["admin"]
    assert token in server.http.get("/v1/tokens").json()["tokens"]
    assert made.json()["secret"] not in server.http.get("/v1/tokens").text
    assert server.http.delete(f"/v1/tokens/{token['id']}").json()["token"] == token
    assert server.http.delete(f"/v1/tokens/{token['id']}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"name": ""}', b'{"name": 5}', b'{"write": true}', b"[" * 60_000,
     b'{"name": "x", "who": 1}', b'{"name": "x", "namespaces": ["nope"]}',
     b'{"name": "x", "rate": -1}', b'{"name": "x", "expires_in_s": 0}', b" " * 70_000],
)  # fmt: skip
def test_bad_descriptions(server: Running, body: bytes) -> None:
    before = store_of(server).all()
    answer = server.http.post("/v1/tokens", content=body)
    assert answer.status_code == (400 if len(body) <= 65_536 else 413)
    assert answer.json()["error"]
    assert store_of(server).all() == before


def test_wrong_methods_and_paths(server: Running) -> None:
    assert server.http.put("/v1/tokens", json={}).status_code == 405
    assert server.http.delete("/v1/tokens").status_code == 405


def test_arguments_are_checked(server: Running) -> None:
    store = store_of(server)
    with pytest.raises(InvalidRequest):
        store.create("x" * 101)
    with pytest.raises(NamespaceNotFound):
        store.create("x", namespaces=["nowhere"])
    with pytest.raises(InvalidRequest):
        store.create("x", namespaces=[], admin=True)
    server.db.namespace("here")
    _, token = store.create("x", namespaces=["here"])
    here = server.namespace_id("here")
    assert token.namespaces == (here,)
    assert token.allows(here, write=False)
    assert not token.allows(here, write=True)
    assert not token.allows("there", write=False)
    assert not token.allows(None, write=False)


def test_a_token_ends(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000.0)
    with kvengine.Database.in_memory(clock=clock) as db:
        store = TokenStore(db, ACCOUNT)
        _, token = store.create("short", expires_in_s=60)
        assert store.all() == [token]
        clock.advance(60)
        assert store.all() == []


names = st.text(min_size=1, max_size=20)


@given(
    st.builds(
        Token,
        names,
        names,
        names,
        st.none() | st.lists(names, max_size=3).map(tuple),
        st.booleans(),
        st.booleans(),
        st.integers(0, 2**40),
        st.none() | st.integers(0, 2**40),
        st.none() | st.floats(0.1, 1e6),
    )
)
def test_records_round_trip(token: Token) -> None:
    assert tokens.decode(token.encode()) == token


@given(st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b"null", b'{"namespaces":5}']))
def test_damaged_records_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        tokens.decode(data)


@given(st.floats(0.5, 100), st.lists(st.floats(0, 3), max_size=60))
def test_an_allowance_never_gives_more_than_its_rate(rate: float, pauses: list[float]) -> None:
    bucket, now, taken = allowance(rate), 1.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= max(1.0, rate) + rate * (now - 1) + 1e-6
    if not pauses:
        assert allowance(None).take(0.0)


def test_an_allowance_fills_again() -> None:
    bucket = allowance(2)
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert 0 < bucket.wait_s <= 0.5
    assert bucket.take(1.5)


@given(st.lists(st.tuples(st.floats(0, 0.7), st.sampled_from("abc")), max_size=50))
def test_writes_of_a_key_are_a_second_apart(writes: list[tuple[float, str]]) -> None:
    moment = [5.0]
    limit = KeyWrites(1.0, lambda: moment[0], table(), b"secret")
    last: dict[str, float] = {}
    for pause, key in writes:
        moment[0] += pause
        expected = key not in last or moment[0] - last[key] >= 1
        taken = limit.take("ns", key)
        assert taken == expected or abs(moment[0] - last[key] - 1) < 1e-6
        if taken:
            last[key] = moment[0]


def test_a_rate_for_each_token() -> None:
    with running(rate=2) as server:
        store = store_of(server)
        slow, _ = store.create("slow", admin=True, rate=1)
        assert status(server, slow) == 200
        found = httpx.get(f"{server.url}/v1/tokens", headers={"Authorization": f"Bearer {slow}"})
        assert found.status_code == 429
        assert int(found.headers["retry-after"]) >= 1
        assert status(server, TOKEN) == 200


def test_the_command_line(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with kvengine.open(data) as db:
        here = db.namespace("here").id

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "kvengine", "token", *arguments, "--data", data]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return found.returncode, found.stdout, found.stderr

    code, secret, said = run("create", "ci", "--namespace", "here", "--write")
    assert code == 0
    assert secret.startswith("kve_")
    assert secret.strip() not in said
    code, listed, _ = run("list", "--json")
    token = json.loads(listed)
    assert token["namespaces"] == [here]
    assert secret.strip() not in listed
    with kvengine.open(data, exclusive=True):
        code, _, said = run("revoke", token["id"])
        assert code == 1
        assert "--url" in said
    with kvengine.open(data) as db:
        assert run("revoke", token["id"])[0] == 0
        assert TokenStore(db, ACCOUNT).all() == []
    assert run("revoke", token["id"])[0] == 1
    assert run("list")[1] == ""


def test_the_command_line_of_a_running_server(server: Running) -> None:
    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "kvengine", "token", *arguments, "--url", server.url]
        found = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "KVENGINE_TOKEN": TOKEN},
        )  # fmt: skip
        return found.returncode, found.stdout, found.stderr

    code, secret, _ = run("create", "ci", "--admin", "--rate", "5")
    assert code == 0
    assert status(server, secret.strip()) == 200
    [token] = store_of(server).all()
    assert token.rate == 5
    assert run("list")[1].startswith(token.id)
    assert run("revoke", token.id)[0] == 0
    assert status(server, secret.strip()) == 401


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (200, "[]", KvError, "did not respond as kvengine does; check the URL"),
        (200, "{}", KvError, "did not respond as kvengine does; check the URL"),
        (200, '{"secret": "s", "token": {"id": 1}}', KvError, "did not respond as kvengine does"),
        (200, "hello", KvError, "did not respond as kvengine does; check the URL"),
        (404, "null", KvError, "the server responded with 404: None"),
        (503, '{"errors": ["full"]}', KvError, "the server responded with 503: .*full"),
        (400, '{"error": "a name"}', InvalidRequest, "the server responded with 400: a name"),
    ],
)
def test_a_server_that_is_another_one_is_an_error_that_says_so(
    status: int, body: str, error: type[KvError], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVENGINE_TOKEN", TOKEN)
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=body))
    with RemoteTokens("http://other.example") as remote:
        remote._http = httpx.Client(base_url="http://other.example", transport=transport)
        with pytest.raises(error, match=text) as caught:
            remote.create("ci")
        assert type(caught.value) is error


@pytest.mark.parametrize("token", [None, "", "kve_secret\r", "kve_secret\n", "kve_s\xe9cret", "x "])
def test_a_token_that_no_header_can_have_is_refused_and_not_shown(
    server: Running, token: str | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KVENGINE_TOKEN"}
    if token is not None:
        environment["KVENGINE_TOKEN"] = token
    found = subprocess.run(
        [sys.executable, "-m", "kvengine", "token", "list", "--url", server.url],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "token" in found.stderr
    assert "kve_" not in found.stderr
    if token is not None:
        with pytest.raises(InvalidRequest, match="token") as refused:
            kvengine.connect(server.url, token=token).namespace("here").get("k")
        assert "kve_" not in str(refused.value)


WRONG_TYPES = [
    {"write": "false"},
    {"write": 1},
    {"write": None},
    {"admin": "no"},
    {"admin": []},
    {"namespaces": "default"},
    {"namespaces": {"default": True}},
    {"namespaces": ["default", 1]},
    {"namespaces": 5},
    {"expires_in_s": "60"},
    {"expires_in_s": 1.5},
    {"expires_in_s": True},
    {"expires_in_s": -1},
    {"expires_in_s": 10**400},
    {"rate": "10"},
    {"rate": True},
    {"rate": 0},
    {"rate": []},
    {"name": 5},
    {"name": None},
    {"name": ""},
]


@pytest.mark.parametrize("wrong", WRONG_TYPES, ids=json.dumps)
def test_descriptions_of_the_wrong_type_are_refused(server: Running, wrong: dict[str, Any]) -> None:
    """ "false" is no False: a token that was to read only must not write (S8)."""
    before = len(store_of(server).all())
    server.namespace_id("default")
    answer = server.http.post("/v1/tokens", json={"name": "n", **wrong})
    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.json()["error"]
    assert len(store_of(server).all()) == before


def test_the_scheme_of_a_token_is_case_insensitive(server: Running) -> None:
    for scheme in ("bearer", "BEARER", "Bearer"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        assert httpx.get(f"{server.url}/v1/tokens", headers=headers).status_code == 200
    headers = {"Authorization": f"Basic {TOKEN}"}
    assert httpx.get(f"{server.url}/v1/tokens", headers=headers).status_code == 401


STREAMS = [
    ("GET", "/v1/live", b""),
    ("GET", "/v1/log?after=0&follow=1", b""),
    ("GET", "/v1/changes?after=0", b""),
    ("POST", "/v1/db/tail", pack([[], {"follow": True}])),
    ("POST", "/v1/ns/{id}/watch", pack([[], {}])),
]


def test_streams_end_with_their_token(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "REVOKED_S", 0.1)
    secret, token = store_of(server).create("follower")
    here, headers = server.namespace_id("kv"), {"Authorization": f"Bearer {secret}"}
    with httpx.Client(headers=headers, timeout=30) as client, ExitStack() as stack:
        streams = []
        for method, path, body in STREAMS:
            url = server.url + path.replace("{id}", here)
            found = stack.enter_context(client.stream(method, url, content=body))
            assert found.status_code == 200
            streams.append(found.iter_raw())
        for pieces in streams:
            next(pieces)
        store_of(server).revoke(token.id)
        end = time.monotonic() + 20
        for pieces in streams:
            with suppress(httpx.RemoteProtocolError):
                for _ in pieces:
                    assert time.monotonic() < end, "the stream goes on"
