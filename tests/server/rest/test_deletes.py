"""Deletes over the wire: only of the version that was asked for, and of many keys all or none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.rest.test_values import error, path
from tests.server.running import Running


def test_a_delete_of_another_version_deletes_nothing(server: Running) -> None:
    """Whoever deletes what they have read must not delete what another wrote since."""
    kv = server.db.namespace("here")
    read = kv.put("key", "read")
    written = kv.put("key", "written since")
    where = path(server, "values/key")
    assert error(server.http.delete(where, params={"if_version": str(read)})) == (412, 10900)
    assert kv.get("key") == "written since"
    answer = server.http.delete(where, params={"if_version": str(written)})
    assert answer.json()["success"] is True
    assert kv.get("key") is None


@pytest.mark.parametrize(("method", "where"), [("POST", "bulk/delete"), ("DELETE", "bulk")])
@pytest.mark.parametrize("bad", ["", "..", "x" * 513, 7, None])
def test_a_bulk_delete_with_a_bad_key_deletes_nothing(
    server: Running, method: str, where: str, bad: Any
) -> None:
    kv = server.db.namespace("here")
    kv.put_many({f"k{n}": "v" for n in range(5)})
    answer = server.http.request(method, path(server, where), json=["k0", "k1", bad, "k2"])
    assert error(answer)[0] in (400, 414)
    assert kv.count() == 5
