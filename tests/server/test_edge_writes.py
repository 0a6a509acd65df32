"""Writes through an edge: what was answered is never reported as failed, and is read there."""

import json

import pytest

import kvengine
from kvengine import Edge, UpstreamUnavailable
from kvengine.client.packing import pack
from kvengine.server.api import calls
from kvengine.server.api.forward import is_write
from kvengine.server.api.json_endpoint import JsonEndpoint
from kvengine.server.api.rest.endpoint import CALLS
from kvengine.server.http.messages import Request
from tests.server.proxy import Proxy
from tests.server.running import ACCOUNT, TOKEN, running
from tests.server.test_edge_forward import Both


@pytest.fixture(scope="module")
def server():
    with running(limits="relaxed") as found:
        yield found


@pytest.fixture
def proxy(server):
    found = Proxy(server.port)
    yield found
    found.close()


@pytest.fixture
def edge(proxy):
    # Changes are rare, so what is read is what the write itself has left.
    with Edge(proxy.url, token=TOKEN, timeout_s=5.0, poll_timeout_s=30.0, grace_s=30.0) as found:
        yield found


WRITES = {
    "put": (lambda kv: kv.put("k", "new"), "new"),
    "delete": (lambda kv: kv.delete("k"), None),
    "touch": (lambda kv: kv.touch("k", expiration_ttl=600), "old"),
    "persist": (lambda kv: kv.persist("k"), "old"),
    "increment": (lambda kv: kv.increment("n", 3), "old"),
    "put_many": (lambda kv: kv.put_many({"k": "new", "m": "x"}), "new"),
    "delete_many": (lambda kv: kv.delete_many(["k"]), None),
    "delete_prefix": (lambda kv: kv.delete_prefix("k"), None),
}


@pytest.mark.parametrize("name", WRITES)
def test_no_question_comes_after_a_write(server, proxy, edge, name):
    write, expected = WRITES[name]
    own = server.db.namespace("after")
    own.put("k", "old")
    own.put("n", "1")
    kv = edge.namespace("after")
    kv.get("k")
    # What is asked after the write is lost, and the write is not: it is answered.
    proxy.loses = b"/v1/version"
    write(kv)
    proxy.loses = None
    assert proxy.lost == 0
    assert kv.get("k") == expected
    assert int(kv.get("n")) == (4 if name == "increment" else 1)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_whose_answer_was_lost_is_read_here(server, proxy, edge, name):
    write, expected = WRITES[name]
    own = server.db.namespace("lost")
    own.put("k", "old")
    own.put("n", "1")
    kv = edge.namespace("lost")
    assert kv.get("k") == "old"
    proxy.loses = f"/v1/ns/{kv.id}/{name} ".encode()
    with pytest.raises(UpstreamUnavailable):
        write(kv)
    proxy.loses = None
    assert proxy.lost == 1
    assert kv.get("k") == expected
    assert int(kv.get("n")) == (4 if name == "increment" else 1)


@pytest.fixture(scope="module")
def both():
    found = Both()
    yield found
    found.close()


VALUES = "/client/v4/accounts/{A}/storage/kv/namespaces/{N}"
ROUTES = {
    "rest put": ("PUT", VALUES + "/values/k", b"new", "new"),
    "rest delete": ("DELETE", VALUES + "/values/k", b"", None),
    "rest bulk put": ("PUT", VALUES + "/bulk", b'[{"key": "k", "value": "new"}]', "new"),
    "rest bulk delete": ("DELETE", VALUES + "/bulk", b'["k"]', None),
    "rest bulk delete, new": ("POST", VALUES + "/bulk/delete", b'["k"]', None),
    "workerd put": ("PUT", "/workerd/{A}/{N}/k?urlencoded=true", b"new", "new"),
    "workerd delete": ("DELETE", "/workerd/{A}/{N}/k?urlencoded=true", b"", None),
    "v1 put": ("POST", "/v1/ns/{N}/put", pack([["k", "new"], {}]), "new"),
    "v1 delete": ("POST", "/v1/ns/{N}/delete", pack([["k"], {}]), None),
    "v1 put_many": ("POST", "/v1/ns/{N}/put_many", pack([[[["k", "new"]]], {}]), "new"),
    "v1 delete_many": ("POST", "/v1/ns/{N}/delete_many", pack([[["k"]], {}]), None),
    "v1 delete_prefix": ("POST", "/v1/ns/{N}/delete_prefix", pack([["k"], {}]), None),
    "console delete-prefix": (
        "POST",
        "/v1/delete-prefix/{N}",
        json.dumps({"prefix": "k", "dry_run": False}).encode(),
        None,
    ),
}


@pytest.mark.parametrize("name", ROUTES)
def test_what_was_written_through_an_edge_is_read_there(both, name):
    method, path, body, expected = ROUTES[name]
    own = both.primary.db.namespace("routes")
    for _ in range(5):
        own.put("k", "old")
        url = (VALUES + "/values/k").replace("{A}", ACCOUNT).replace("{N}", own.id)
        assert both.near.http.get(url).status_code in (200, 404)
        target = path.replace("{A}", ACCOUNT).replace("{N}", own.id)
        answer = both.near.http.request(method, target, content=body)
        assert answer.status_code == 200, answer.text
        answer = both.near.http.get(url)
        assert (answer.text if answer.status_code == 200 else None) == expected


def asked(method, path):
    return Request({"method": method, "path": path, "raw_path": path.encode(), "headers": []}, None)


def all_routes():
    """Yield method, path and action of every route that a server has."""
    for shape, methods in CALLS.items():
        path = "/client/v4/accounts/a/storage/kv/namespaces" + "".join(
            "/x" if part == b"+" else "/" + part.decode() for part in shape
        )
        for method, (_, action, _) in methods.items():
            is_change = action in ("write", "delete") or (action == "admin" and method != "GET")
            yield method, path, is_change
    for name, call in (calls.NAMESPACE_CALLS | calls.NAMESPACE_STREAMS).items():
        yield "POST", f"/v1/ns/x/{name}", call.write
    for name, call in (calls.DATABASE_CALLS | calls.DATABASE_STREAMS).items():
        yield "POST", f"/v1/db/{name}", call.write or name == "namespace"
    for method, name in JsonEndpoint(None, None)._answers:
        yield method, f"/v1/{name}" + "/x" * (name == "delete-prefix"), method != "GET"
    yield from (
        ("GET", "/v1/tokens", False),
        ("POST", "/v1/tokens", True),
        ("DELETE", "/v1/tokens/x", True),
        ("GET", "/v1/log", False),
        ("GET", "/v1/changes", False),
        ("POST", "/v1/fetch", False),
        ("POST", "/v1/version", False),
        ("POST", "/v1/edge/fra", False),
        ("POST", "/client/v4/graphql", False),
        ("PUT", "/workerd/a/n/k", True),
        ("DELETE", "/workerd/a/n/k", True),
        ("POST", "/workerd/a/n/bulk/get", False),
        ("GET", "/workerd/a/n/k", False),
        ("POST", "/v1/what-is-added-later", True),
        ("POST", "/client/v4/accounts/a/storage/kv/namespaces/x/later", True),
        ("PATCH", "/v1/ns/x/get", True),
    )


@pytest.mark.parametrize(("method", "path", "changes"), list(all_routes()))
def test_what_may_change_something_counts_as_a_write(method, path, changes):
    assert is_write(asked(method, path)) == changes


def test_a_delete_of_nothing_lifts_the_floor(both):
    """Its version is 0: an older answer on its way must not be kept."""
    namespace = both.primary.db.namespace("none")
    url = (VALUES + "/values/none").replace("{A}", ACCOUNT).replace("{N}", namespace.id)
    both.near.http.get(url)
    watermarks = both.edge._inner._node.watermarks
    before = watermarks.uncertain_count
    answer = both.near.http.delete(url)
    assert (answer.status_code, answer.headers["kv-version"]) == (200, "0")
    assert watermarks.uncertain_count == before + 1


def test_after_a_conflict_the_newer_value_is_read(both):
    namespace = both.primary.db.namespace("conflict")
    version = namespace.put("k", "old")
    url = (VALUES + "/values/k").replace("{A}", ACCOUNT).replace("{N}", namespace.id)
    assert both.near.http.get(url).text == "old"
    with both.primary.db._primary_for_edges()._pumping:  # the edge hears nothing
        namespace.put("k", "new")
        assert both.near.http.get(url).text == "old"
        answer = both.near.http.put(url, params={"if_version": version}, content=b"mine")
        assert answer.status_code == 412
        assert both.near.http.get(url).text == "new"


def test_an_edge_of_an_edge_uses_the_version_of_the_answer(proxy, server):
    with (
        kvengine.connect(proxy.url, token=TOKEN) as db,
        Edge(db, "up", poll_timeout_s=30.0, grace_s=30.0) as up,
        Edge(up, "leaf", poll_timeout_s=30.0, grace_s=30.0) as leaf,
    ):
        kv = leaf.namespace("chain")
        kv.put("k", "1")
        assert kv.get("k") == "1"
        proxy.loses = b"/v1/version"
        assert kv.increment("k", 5) == 6
        assert kv.get("k") == "6"
        assert proxy.lost == 0
