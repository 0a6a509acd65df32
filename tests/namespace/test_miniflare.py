"""Every case of Miniflare's tests of KV, by its name, and those of its explorer and of workerd.

Those of list are in test_miniflare_list.py.  The list of cases is section 6.2 of the project's
research on Workers KV; the texts are those of its section 1.6, without "KV GET failed: 400 " and
the like in front, which the HTTP layer adds.

Left to those who have what they are about: the explorer's routes, status codes and URL-encoded
names (the server), workerd's instrumentation test (tracing), deleteBulkTest (tests of bulk calls).
"""

import io

import pytest

from kvengine import (
    Database,
    InvalidRequest,
    InvalidType,
    LimitExceeded,
    NamespaceNotFound,
    Store,
    open,  # noqa: A004
)
from kvengine.testing.clock import START

BAD_KEYS = [
    ("", "Key name cannot be empty."),
    (".", '"." is not allowed as a key name.'),
    ("..", '".." is not allowed as a key name.'),
    ("x" * 513, "UTF-8 encoded length of 513 exceeds key length limit of 512."),
]
NOW = int(START)
MAX = 25 * 1024 * 1024


@pytest.fixture
def kv(strict):
    return strict


def fails(call, text, kind=InvalidRequest):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
    return caught.value


# -- get


@pytest.mark.parametrize(("key", "text"), BAD_KEYS)
def test_get_validates_key(kv, key, text):
    fails(lambda: kv.get(key), text)


def test_get_returns_value(kv):
    kv.put("key", "value")
    assert kv.get("key") == "value"


def test_get_returns_array_buffer_values(kv):
    kv.put("key", b"\1\2\3")
    assert kv.get("key", "bytes") == b"\1\2\3"


def test_get_returns_stream_values(kv):
    kv.put("key", b"\1\2\3")
    assert kv.get("key", "stream").read() == b"\1\2\3"


def test_get_returns_null_for_non_existent_keys(kv):
    for kind in ("text", "bytes", "json", "stream"):
        assert kv.get("key", kind) is None


def test_get_returns_null_for_expired_keys(kv, clock):
    kv.put("key", "value", expiration_ttl=60)
    clock.advance(59.999)
    assert kv.get("key") == "value"
    clock.advance(0.001)
    assert clock.time() == NOW + 60
    assert kv.get("key") is None


def test_get_validates_but_ignores_cache_ttl(kv):
    kv.put("key", '"value"')
    text = "Invalid cache_ttl of {}. Cache TTL must be at least 30."
    fails(lambda: kv.get("key", cache_ttl=10), text.format(10))
    fails(lambda: kv.get("key", cache_ttl=29), text.format(29))
    fails(lambda: kv.get("key", cache_ttl="nan"), "Invalid cache_ttl of 'nan'. " + NOT_A_STR)
    assert kv.get("key", "json", cache_ttl=30) == "value"


NOT_A_STR = "Please specify an integer, not str."

# -- bulk get


def test_bulk_get_returns_value(kv):
    kv.put("key1", "value1")
    assert kv.get(["key1", "key2"]) == {"key1": "value1", "key2": None}


def test_bulk_get_check_max_keys(kv):
    keys = [f"key{number}" for number in range(101)]
    fails(lambda: kv.get(keys), "You can request a maximum of 100 keys")
    fails(lambda: kv.get_with_metadata(keys), "You can request a maximum of 100 keys")
    assert kv.get(keys[:100]) == dict.fromkeys(keys[:100])


def test_bulk_get_check_minimum_keys(kv):
    fails(lambda: kv.get([]), "You must request a minimum of 1 key")


@pytest.mark.parametrize("kind", ["invalid", "arrayBuffer", "bytes", "stream"])
def test_bulk_get_invalid_type(kv, kind):
    text = f'"{kind}" is not a valid type. Use "json" or "text"'
    fails(lambda: kv.get(["key"], kind), text)
    fails(lambda: kv.get_with_metadata(["key"], kind), text)


def test_bulk_get_request_json_type(kv):
    kv.put("key1", '{"example": "value"}')
    kv.put("key2", "not json")
    assert kv.get(["key1", "nope"], "json") == {"key1": {"example": "value"}, "nope": None}
    text = "At least one of the requested keys corresponds to a non-json value"
    error = fails(lambda: kv.get(["key1", "key2"], "json"), text)
    assert "the value of 'key2' is not JSON" in str(error.__cause__)
    fails(lambda: kv.get_with_metadata(["key1", "key2"], "json"), text)


def put_and_get_metadata(kv, metadata):
    kv.put("key1", "value1", metadata=metadata)
    kv.put("key2", "value2")
    found = kv.get_with_metadata(["key1", "key2"])
    assert [(entry.value, entry.metadata) for entry in found.values()] == [
        ("value1", metadata),
        ("value2", None),
    ]
    assert type(found["key1"].metadata) is type(metadata)


def test_bulk_get_check_metadata(kv):
    put_and_get_metadata(kv, {"testing": True})


def test_bulk_get_check_metadata_with_int(kv):
    put_and_get_metadata(kv, 123)


def test_bulk_get_check_metadata_as_string(kv):
    put_and_get_metadata(kv, "example")


def test_bulk_get_with_metadata_for_404(kv):
    assert kv.get_with_metadata(["key1", "key2"]) == {"key1": None, "key2": None}


def test_bulk_get_over_size_limit(kv):
    for key in ("key1", "key2"):
        kv.put(key, bytes(MAX // 2 + 1))
    text = "Total size of request exceeds the limit of 25MB"
    for get in (kv.get, kv.get_with_metadata):
        assert fails(lambda: get(["key1", "key2"]), text, LimitExceeded).status == 413  # noqa: B023
    kv.put("key1", bytes(MAX // 2 - 1))
    assert len(kv.get(["key1", "key2"])["key1"]) == MAX // 2 - 1


@pytest.mark.parametrize("metadata", [0, False, "", [], {}])
def test_bulk_get_check_metadata_for_falsy_values(kv, metadata):
    put_and_get_metadata(kv, metadata)


@pytest.mark.parametrize("value", ["", 0, False, None, [], {}])
def test_bulk_get_check_metadata_for_falsy_json_values(kv, value):
    kv.put("key", value, type="json", metadata=value)
    found = kv.get_with_metadata(["key"], "json")["key"]
    assert (found.value, found.metadata) == (value, value)


# -- put


@pytest.mark.parametrize(("key", "text"), BAD_KEYS)
def test_put_validates_key(kv, key, text):
    fails(lambda: kv.put(key, "value"), text)


def test_put_puts_value(kv):
    kv.put("key", "value", expiration=NOW + 86400, metadata={"testing": True})
    found = kv.get_with_metadata("key")
    assert (found.value, found.metadata, found.cache_status) == ("value", {"testing": True}, None)
    assert kv.get_metadata("key").expiration == NOW + 86400


def test_put_puts_empty_value(kv):
    kv.put("key", "")
    assert kv.get("key") == ""


def test_put_overrides_existing_keys(kv):
    kv.put("key", "value1", expiration_ttl=100, metadata={"a": 1})
    kv.put("key", "value2")
    assert kv.get_with_metadata("key")[:2] == ("value2", None)
    assert kv.get_metadata("key").expiration is None


def test_put_keys_are_case_sensitive(kv):
    kv.put("key", "lower")
    kv.put("KEY", "upper")
    assert kv.get(["key", "KEY"]) == {"key": "lower", "KEY": "upper"}


def test_put_validates_expiration_ttl(kv):
    def put(ttl):
        return lambda: kv.put("key", "value", expiration_ttl=ttl)

    positive = "Please specify integer greater than 0."
    fails(put("nan"), "Invalid expiration_ttl of 'nan'. " + NOT_A_STR, InvalidType)
    fails(put(0), "Invalid expiration_ttl of 0. " + positive)
    fails(put(-1), "Invalid expiration_ttl of -1. " + positive)
    fails(put(30), "Invalid expiration_ttl of 30. Expiration TTL must be at least 60.")
    fails(put(59), "Invalid expiration_ttl of 59. Expiration TTL must be at least 60.")
    assert put(60)()


def test_put_validates_expiration(kv):
    def put(moment):
        return lambda: kv.put("key", "value", expiration=moment)

    later = (
        "Please specify integer greater than the current number of seconds since the UNIX epoch."
    )
    soon = "Expiration times must be at least 60 seconds in the future."
    fails(put("nan"), "Invalid expiration of 'nan'. " + NOT_A_STR, InvalidType)
    fails(put(0), f"Invalid expiration of 0. {later}")
    fails(put(NOW), f"Invalid expiration of {NOW}. {later}")
    fails(put(NOW + 30), f"Invalid expiration of {NOW + 30}. {soon}")
    fails(put(NOW + 59), f"Invalid expiration of {NOW + 59}. {soon}")
    assert put(NOW + 60)()


def test_put_validates_value_size(kv):
    text = f"Value length of {MAX + 1} exceeds limit of {MAX}."
    assert fails(lambda: kv.put("key", bytes(MAX + 1)), text, LimitExceeded).status == 413
    assert kv.get("key") is None
    assert kv.put("key", bytes(MAX))


def test_put_validates_metadata_size(kv):
    def put(size):
        return lambda: kv.put("key", "value", metadata="x" * (size - 2))

    text = "Metadata length of 1025 exceeds limit of 1024."
    assert fails(put(1025), text, LimitExceeded).status == 413
    assert put(1024)()


# -- delete


@pytest.mark.parametrize(("key", "text"), BAD_KEYS)
def test_delete_validates_key(kv, key, text):
    fails(lambda: kv.delete(key), text)


def test_delete_deletes_existing_keys(kv):
    kv.put("key", "value")
    assert kv.delete("key") == kv._store.version
    assert kv.get("key") is None


def test_delete_does_nothing_for_non_existent_keys(kv):
    before = kv._store.version
    assert kv.delete("key") == 0
    assert kv._store.version == before


# -- persistence


def test_persists_in_memory_between_options_reloads():
    """Another database object on the same store: its limits differ, its values do not."""
    store = Store.in_memory()
    Database(store).namespace("ns").put("key", "value", expiration_ttl=1000)
    with Database(store, limits="strict") as db:
        assert db.namespace("ns").get("key") == "value"


def test_persists_on_file_system(tmp_path):
    with open(tmp_path, limits="strict") as db:
        db.namespace("ns").put("key", "value", metadata=[1])
        namespace_id = db.namespace("ns").id
    with open(tmp_path) as db:
        assert db.namespace(namespace_id).get_with_metadata("key")[:2] == ("value", [1])


# -- explorer


def test_explorer_lists_all_namespaces_and_sorts(kv):
    with Database.in_memory() as db:
        made = {title: db.create_namespace(title) for title in ("b", "a", "c")}
        assert [info.title for info in db.namespaces()] == ["a", "b", "c"]
        assert [info.title for info in db.namespaces(direction="desc")] == ["c", "b", "a"]
        ids = sorted(info.id for info in made.values())
        assert [info.id for info in db.namespaces(order="id")] == ids
        assert [info.id for info in db.namespaces(order="id", direction="desc")] == ids[::-1]


def test_explorer_404_for_non_existent_namespace(tmp_path):
    open(tmp_path).close()
    with open(tmp_path, read_only=True) as db:
        fails(lambda: db.namespace("no"), "namespace 'no' does not exist", NamespaceNotFound)


def test_explorer_returns_raw_bytes_and_writes_streamed_binary_values(kv):
    data = bytes(range(256)) * 1000
    kv.put("key/with %2F", io.BytesIO(data))
    assert kv.get("key/with %2F", "bytes") == data
    assert kv.get("key/with /") is None


# -- workerd


def test_put_takes_a_resizable_buffer(kv):
    """kv-resizable-arraybuffer-test: what the buffer holds at the call is stored."""
    buffer = bytearray(b"before")
    kv.put("key", buffer)
    buffer += b" and after"
    assert kv.get("key") == "before"
    kv.put("key", memoryview(buffer)[:2])
    assert kv.get("key") == "be"


def test_get_with_an_unknown_type(kv):
    kv.put("key", "value")
    text = (
        'Unknown response type. Possible types are "text", "bytes", "json", and "stream", not {}.'
    )
    for get in (kv.get, kv.get_with_metadata):
        fails(lambda: get("key", "blob"), text.format("'blob'"))  # noqa: B023
        fails(lambda: get("key", None), text.format("None"))  # noqa: B023
