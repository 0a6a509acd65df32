"""Bounds of namespaces in the REST API: fields of kvengine, which clients of Cloudflare omit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.running import ACCOUNT, Running

SPACES = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"


def result(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def test_they_are_set_shown_kept_and_removed(server: Running) -> None:
    made = result(server.http.post(SPACES, json={"title": "cache", "max_keys": 5}))
    here = f"{SPACES}/{made['id']}"
    plain = {"id": made["id"], "title": "cache", "supports_url_encoding": True}
    assert made == plain | {"max_bytes": None, "max_keys": 5, "eviction": "lru"}
    assert result(server.http.get(here)) == made
    assert made in result(server.http.get(SPACES))
    for number in range(9):
        result(server.http.put(f"{here}/values/k{number}", content=b"v"))
    assert server.db.namespace("cache").count() == 5
    renamed = result(server.http.put(here, json={"title": "pages"}))
    assert renamed == made | {"title": "pages"}
    body = {"title": "cache", "max_bytes": 9, "eviction": "lfu"}
    changed = result(server.http.put(here, json=body))
    assert changed == plain | {"max_bytes": 9, "max_keys": None, "eviction": "lfu"}
    assert server.db.namespace("cache").size().bytes <= 9
    answer = server.http.put(f"{here}/values/k", content=b"v" * 9)
    assert answer.status_code == 413
    assert "holds at most 9 bytes" in answer.text
    body = {"title": "cache", "max_bytes": None}
    assert result(server.http.put(here, json=body)) == result(server.http.get(here)) == plain


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_keys": 0}, "max_keys must be from 1 to"),
        ({"max_bytes": "9"}, "max_bytes must be an int or None, not str"),
        ({"max_bytes": True}, "max_bytes must be an int or None, not bool"),
        ({"max_keys": 9, "eviction": "fifo"}, "eviction must be 'lru' or 'lfu', not 'fifo'"),
        ({"max_keys": 9, "eviction": []}, "eviction must be 'lru' or 'lfu', not []"),
        ({"eviction": "lfu"}, "eviction needs max_bytes or max_keys"),
    ],
)
def test_bad_ones_change_nothing(server: Running, fields: dict[str, Any], text: str) -> None:
    here = f"{SPACES}/{server.db.create_namespace('here', max_keys=7).id}"
    before, version = result(server.http.get(here)), server.db.version
    for answer in (
        server.http.post(SPACES, json={"title": "new", **fields}),
        server.http.put(here, json={"title": "new", **fields}),
    ):
        assert answer.status_code == 400
        assert text in answer.json()["errors"][0]["message"]
    assert result(server.http.get(here)) == before
    assert server.db.version == version
