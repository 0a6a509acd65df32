"""The endpoints of the primary: the log, requests for keys, changes; and who may ask."""

import http.client

import pytest

import kvengine
from kvengine.client.packing import pack, unpack
from kvengine.edge import codec
from kvengine.edge.codec import Kind
from kvengine.edge.messages import KeyRequest
from kvengine.server.auth.token_store import TokenStore
from tests.server.places import until
from tests.server.running import ACCOUNT, TOKEN, running


def read_changes(server, after, count, hold="0.05"):
    with server.http.stream("GET", f"/v1/changes?after={after}&hold={hold}") as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        rest = bytearray()

        def read(size):
            while not rest:
                rest.extend(next(pieces, b"") or b"")
            found = bytes(rest[:size])
            del rest[:size]
            return found

        frames = codec.frames(read, Kind.CHANGES)
        return [next(frames) for _ in range(count)]


def test_news_come_as_they_are_made_and_heartbeats_in_between(server):
    namespace = server.db.namespace("changes")
    after = server.db.version
    first, second = read_changes(server, after, 2)
    assert (first.after, first.upto, first.events) == (after, after, ())
    assert second.waited >= first.waited > 0
    namespace.put("a", "1")
    namespace.delete("a")
    changes = [one for one in read_changes(server, after, 3) if one.events]
    events = [event for one in changes for event in one.events]
    assert [event.key[5:] for event in events][-1:] == [b"a"]
    assert changes[-1].upto == server.db.version


def test_questions_are_answered(server):
    namespace = server.db.namespace("requests")
    version = namespace.put("a", b"\x00" * 100, metadata=1)
    wants = [
        KeyRequest(namespace._name("a")),
        KeyRequest(namespace._name("b")),
        KeyRequest(namespace._name("a"), 0, version),
    ]
    answer = server.http.post("/v1/fetch", content=codec.encode_requests(wants))
    data = [answer.content]

    def read(size):
        found, data[0] = data[0][:size], data[0][size:]
        return found

    (found,) = codec.frames(read, Kind.ANSWERS)
    assert [(one.version, one.value, one.unchanged) for one in found] == [
        (version, b"\x00" * 100, False), (0, None, False), (version, None, True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/fetch", b"garbage", 400),
        ("POST", "/v1/fetch", b"", 400),
        ("POST", "/v1/fetch", bytes(5 << 20), 413),
        ("GET", "/v1/fetch", b"", 405),
        ("GET", "/v1/changes", b"", 400),
        ("GET", "/v1/changes?after=x", b"", 400),
        ("GET", "/v1/changes?after=1&hold=x", b"", 400),
        ("GET", "/v1/log?after=-1", b"", 400),
        ("GET", f"/v1/log?after={'9' * 5000}", b"", 400),  # more digits than int() takes
        ("GET", "/v1/log?uuid=zz", b"", 400),
        ("POST", "/v1/db/close", pack([[], {}]), 404),
        ("POST", "/v1/db/__class__", pack([[], {}]), 404),
        ("POST", "/v1/db/usage", b"garbage", 400),
        ("POST", "/v1/db/namespace", pack([[], {}]), 400),
        ("POST", "/v1/db/namespace_by_id", pack([["a", "b"], {}]), 400),
        ("POST", "/v1/db/namespace", pack([[], {"title": "a"}]), 400),
        ("POST", "/v1/db/usage", pack([1, 2]), 400),
        ("POST", "/v1/db/usage", pack([[], {"nonsense": 1}]), 400),
        ("POST", "/v1/ns/nothing/get", pack([["a"], {}]), 404),
        ("POST", "/v1/ns/nothing/refuse", pack([["a"], {}]), 404),
        ("POST", "/v1/nothing", b"", 404),
    ],
)
def test_what_is_wrong_is_refused(server, method, path, body, status):
    answer = server.http.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["name"]
    assert answer.headers["kv-store"] == server.db.store._parts.manifest.uuid.hex()


def with_token(server, **options):
    secret, token = TokenStore(server.db, ACCOUNT).create("t", **options)
    return secret, token


def test_tokens_decide(server):
    own, other = server.db.namespace("own"), server.db.namespace("other")
    everywhere, _ = with_token(server)
    with kvengine.connect(server.url, token=everywhere) as db:
        assert {one.title for one in db.namespaces()} >= {"own", "other"}
        assert db.namespace("own").get("a") is None
        for refused in (
            lambda: db.namespace("own").put("a", "b"),
            lambda: db.create_namespace("x"),
            lambda: db.namespace("not there yet"),
            lambda: db.delete("own"),
            db.usage,
        ):
            with pytest.raises(kvengine.AccessDenied):
                refused()
        assert db.log_source().version == server.db.version
    scoped, token = with_token(server, namespaces=[own.id], write=True)
    with kvengine.connect(server.url, token=scoped) as db:
        assert [one.title for one in db.namespaces()] == ["own"]
        db.namespace("own").put("a", "b")
        with pytest.raises(kvengine.NamespaceNotFound):
            db.namespace_by_id(other.id)
        with pytest.raises(kvengine.AccessDenied):
            list(db.tail())
        with pytest.raises(kvengine.AccessDenied):
            _ = db.log_source().version
        with pytest.raises(kvengine.AccessDenied):
            kvengine.Edge(db)
        TokenStore(server.db, ACCOUNT).revoke(token.id)
        with pytest.raises(kvengine.AccessDenied, match="refuses the token"):
            db.namespace("own")
    for path in ("/v1/log?after=0", "/v1/changes?after=0", "/v1/nothing"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == 401
        connection.close()


def test_what_the_log_tells_of_tokens(server):
    """Who reads all namespaces reads the log, and no token in it; others read none of it."""
    own = server.db.namespace("own").id
    tokens = TokenStore(server.db, ACCOUNT)
    secret, token = tokens.create("an edge")
    scoped, _ = tokens.create("scoped", namespaces=(own,), write=True)
    paths = (("GET", "/v1/log?after=0"), ("GET", "/v1/changes?after=0"), ("POST", "/v1/fetch"))
    for method, path in paths:
        headers = {"authorization": f"Bearer {scoped}"}
        assert server.http.request(method, path, headers=headers).status_code == 403
    log = server.http.get("/v1/log?after=0", headers={"authorization": f"Bearer {secret}"})
    assert log.status_code == 200
    assert token.id.encode() in log.content
    assert secret.encode() not in log.content
    assert scoped.encode() not in log.content


def test_a_follower_over_http(server):
    namespace = server.db.namespace("followed")
    namespace.put("a", b"\xff" * 5000)
    with (
        kvengine.connect(server.url, token=TOKEN) as db,
        kvengine.Follower(db.log_source()) as follower,
    ):
        follower.wait(timeout=20)
        copy = follower.database().namespace("followed")
        assert copy.get("a", "bytes") == b"\xff" * 5000
        namespace.put("a", "newer")
        until(lambda: copy.get("a") == "newer", "the replica does not follow")


def test_another_store_is_refused_by_a_replica():
    with running() as first:
        db = kvengine.connect(first.url, token=TOKEN)
        source = db.log_source()
        assert len(source.uuid) == 16
        port = first.port
    with running(port=port) as second, db:
        assert second.port == port
        with pytest.raises((kvengine.UpstreamUnavailable, kvengine.ReplicaDiverged)):
            list(source.pieces(0))


def test_the_version_says_what_is_accepted(server):
    found = unpack(server.http.post("/v1/version", content=pack(None)).content)
    assert (found["version"], found["account"]) == (server.db.version, ACCOUNT)
    assert found["limits"]["value_bytes"] == server.db.limits.value_bytes
