"""An export over the network, of keys that others write meanwhile."""

import io
import json

import pytest

import kvengine
from kvengine.client.namespace import RemoteNamespace
from tests.server.running import TOKEN, running


@pytest.fixture(scope="module")
def server():
    with running(limits="relaxed") as found:
        yield found


@pytest.mark.parametrize("reads", [1, 2])  # of the value, before which the key is written
@pytest.mark.parametrize("before", [None, 1000])
@pytest.mark.parametrize("after", [None, 2000])
def test_a_pair_has_the_expiration_of_its_value(server, monkeypatch, reads, before, after):
    """Else what was put without one would be lost some time after an import."""
    kv = server.db.namespace("n")
    kv.put("k", "listed", expiration_ttl=before, metadata="old")
    original, count = RemoteNamespace.get_with_metadata, 0

    def read(namespace, *args):
        nonlocal count
        count += 1
        if count <= reads:
            kv.put("k", f"v{count}", expiration_ttl=after)
        found = original(namespace, *args)
        if count < reads:  # and again, before its expiration is asked for
            kv.put("k", "between")
        return found

    monkeypatch.setattr(RemoteNamespace, "get_with_metadata", read)
    with kvengine.connect(server.url, token=TOKEN) as db:
        file = io.BytesIO()
        assert db.namespace("n").export_file(file).keys == 1
    monkeypatch.undo()
    pair = {"key": "k", "value": kv.get("k")}
    if after is not None:
        pair["expiration"] = kv.get_metadata("k").expiration
    assert json.loads(file.getvalue()) == pair


def test_a_key_that_is_deleted_meanwhile_is_left_out(server, monkeypatch):
    kv = server.db.namespace("n")
    kv.put("k", "listed", expiration_ttl=1000)
    original = RemoteNamespace.get_with_metadata

    def read(namespace, *args):
        if kv.get("k") == "listed":
            kv.put("k", "written")
            found = original(namespace, *args)
            kv.delete("k")
            return found
        return original(namespace, *args)

    monkeypatch.setattr(RemoteNamespace, "get_with_metadata", read)
    with kvengine.connect(server.url, token=TOKEN) as db:
        file = io.BytesIO()
        assert db.namespace("n").export_file(file).keys == 0
    assert file.getvalue() == b""


def test_a_key_that_is_always_written_is_exported(server, monkeypatch):
    kv = server.db.namespace("n")
    kv.put("k", "listed")
    original = RemoteNamespace.get_with_metadata

    def read(namespace, *args):
        kv.put("k", "before", expiration_ttl=2000)
        found = original(namespace, *args)
        kv.put("k", "behind", expiration_ttl=2000)
        return found

    monkeypatch.setattr(RemoteNamespace, "get_with_metadata", read)
    with kvengine.connect(server.url, token=TOKEN) as db:
        file = io.BytesIO()
        assert db.namespace("n").export_file(file).keys == 1
    pair = json.loads(file.getvalue())
    assert pair["value"] == "before"
    assert abs(pair["expiration"] - kv.get_metadata("k").expiration) <= 1
