"""The official Python SDK, unchanged, for every call it has."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cloudflare
import pytest
from cloudflare import Cloudflare

from tests.server.running import ACCOUNT, TOKEN, Running


@pytest.fixture
def sdk(server: Running) -> Iterator[Cloudflare]:
    with Cloudflare(base_url=server.base_url, api_token=TOKEN, max_retries=0) as client:
        yield client


@pytest.fixture
def here(server: Running) -> str:
    return server.namespace_id("here")


def test_namespaces(sdk: Cloudflare) -> None:
    calls = sdk.kv.namespaces
    made = calls.create(account_id=ACCOUNT, title="first")
    assert (made.title, made.supports_url_encoding) == ("first", True)
    with pytest.raises(cloudflare.BadRequestError) as taken:
        calls.create(account_id=ACCOUNT, title="first")
    assert taken.value.errors[0].code == 10014
    renamed = calls.update(made.id, account_id=ACCOUNT, title="renamed")
    assert (renamed.id, renamed.title) == (made.id, "renamed")
    assert calls.get(made.id, account_id=ACCOUNT).title == "renamed"
    for number in range(7):
        calls.create(account_id=ACCOUNT, title=f"n{number}")
    found = calls.list(account_id=ACCOUNT, order="title", direction="desc", per_page=5)
    assert [one.title for one in found] == ["renamed", *(f"n{n}" for n in reversed(range(7)))]
    calls.delete(made.id, account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError) as gone:
        calls.get(made.id, account_id=ACCOUNT)
    assert gone.value.errors[0].code == 10013


@pytest.mark.parametrize("key", ["plain", "a/b", "%2F", "a+b c", "é/🤓", "bulk/get", "#?&=", "..a"])
def test_values(sdk: Cloudflare, here: str, key: str) -> None:
    calls = sdk.kv.namespaces.values
    calls.update(key, account_id=ACCOUNT, namespace_id=here, value=b"\x00\xff", metadata={"é": [1]})
    answer = calls.get(key, account_id=ACCOUNT, namespace_id=here)
    assert answer.read() == b"\x00\xff"
    assert "expiration" not in answer.headers
    found = sdk.kv.namespaces.metadata.get(key, account_id=ACCOUNT, namespace_id=here)
    assert found == {"é": [1]}
    calls.delete(key, account_id=ACCOUNT, namespace_id=here)
    calls.delete(key, account_id=ACCOUNT, namespace_id=here)
    with pytest.raises(cloudflare.NotFoundError) as gone:
        calls.get(key, account_id=ACCOUNT, namespace_id=here)
    assert gone.value.errors[0].code == 10009


@pytest.mark.parametrize("metadata", [{"a": 1}, [1], "text", 5, True])
def test_metadata_of_every_kind(
    sdk: Cloudflare, server: Running, here: str, metadata: object
) -> None:
    given = '"text"' if metadata == "text" else metadata  # the SDK sends a str as it is
    sdk.kv.namespaces.values.update(
        "k", account_id=ACCOUNT, namespace_id=here, value=b"v", metadata=given
    )
    found = server.db.namespace("here").get_with_metadata("k")
    assert (found.value, found.metadata) == ("v", metadata)


def test_none_as_metadata_is_refused_as_at_cloudflare(sdk: Cloudflare, here: str) -> None:
    """The SDK sends an empty part for None, which is not JSON; leave the argument out."""
    with pytest.raises(cloudflare.BadRequestError, match="metadata must be JSON"):
        sdk.kv.namespaces.values.update(
            "k", account_id=ACCOUNT, namespace_id=here, value=b"v", metadata=None
        )


def test_lives(sdk: Cloudflare, here: str) -> None:
    calls = sdk.kv.namespaces.values
    end = int(time.time()) + 1000
    calls.update("k", account_id=ACCOUNT, namespace_id=here, value=b"v", expiration=float(end))
    assert calls.get("k", account_id=ACCOUNT, namespace_id=here).headers["expiration"] == str(end)
    calls.update("k", account_id=ACCOUNT, namespace_id=here, value=b"v", expiration_ttl=60)
    with pytest.raises(cloudflare.BadRequestError) as early:
        calls.update("k", account_id=ACCOUNT, namespace_id=here, value=b"w", expiration_ttl=59)
    assert early.value.errors[0].code == 10034
    assert calls.get("k", account_id=ACCOUNT, namespace_id=here).read() == b"v"


def test_lists(sdk: Cloudflare, server: Running, here: str) -> None:
    kv = server.db.namespace("here")
    kv.put_many({f"p {n:03}": "v" for n in range(57)})
    kv.put("p 000", "v", metadata={"m": 1}, expiration_ttl=1000)
    kv.put("q", "v")
    pages = sdk.kv.namespaces.keys.list(
        account_id=ACCOUNT, namespace_id=here, prefix="p ", limit=10
    )
    found = list(pages)
    assert [one.name for one in found] == [f"p {n:03}" for n in range(57)]
    assert found[0].metadata == {"m": 1}
    assert found[0].expiration
    assert found[1].metadata is None
    assert found[1].expiration is None


def test_bulk(sdk: Cloudflare, here: str) -> None:
    calls = sdk.kv.namespaces
    pairs = [
        {"key": "a", "value": "1", "metadata": {"x": 1}, "expiration_ttl": 1000.0},
        {"key": "b", "value": "AP8=", "base64": True},
        {"key": "c", "value": '{"j": 2}'},
    ]
    done = calls.bulk_update(here, account_id=ACCOUNT, body=pairs)
    assert done is not None
    assert done.successful_key_count == 3
    assert calls.values.get("b", account_id=ACCOUNT, namespace_id=here).read() == b"\x00\xff"
    found = calls.bulk_get(here, account_id=ACCOUNT, keys=["a", "nope", "c"])
    assert found is not None
    assert found.values == {"a": "1", "nope": None, "c": '{"j": 2}'}
    found = calls.bulk_get(here, account_id=ACCOUNT, keys=["c"], type="json")
    assert found is not None
    assert found.values == {"c": {"j": 2}}
    found = calls.bulk_get(here, account_id=ACCOUNT, keys=["a", "nope"], with_metadata=True)
    assert found is not None
    assert found.values is not None
    one = found.values["a"]
    assert (one.value, one.metadata) == ("1", {"x": 1})
    assert one.expiration
    gone = calls.bulk_delete(here, account_id=ACCOUNT, body=["a", "b", "nope"])
    assert gone is not None
    assert gone.successful_key_count == 3


def test_who_has_no_token(server: Running, here: str) -> None:
    with (
        Cloudflare(base_url=server.base_url, api_token="wrong", max_retries=0) as stranger,
        pytest.raises(cloudflare.AuthenticationError) as refused,
    ):
        stranger.kv.namespaces.values.get("k", account_id=ACCOUNT, namespace_id=here)
    assert refused.value.errors[0].code == 10000
    with (
        Cloudflare(base_url=server.base_url, api_token=TOKEN, max_retries=0) as sdk,
        pytest.raises(cloudflare.PermissionDeniedError),
    ):
        sdk.kv.namespaces.values.get("k", account_id="b" * 32, namespace_id=here)


def test_the_older_way_to_say_who_one_is(server: Running, here: str) -> None:
    with Cloudflare(
        base_url=server.base_url, api_key=TOKEN, api_email="a@example.com", max_retries=0
    ) as sdk:
        sdk.kv.namespaces.values.update("k", account_id=ACCOUNT, namespace_id=here, value=b"v")
