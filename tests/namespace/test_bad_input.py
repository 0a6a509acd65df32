"""Keys, metadata, times and texts of a list that can't be: a clear error, and nothing written.

Sizes are in test_limits.py, values and versions in test_bad_values.py, cursors in test_cursor.py.
"""

import math

import pytest

from kvengine import InvalidRequest, InvalidType
from kvengine.testing.clock import START

NOW = int(START)
CALLS = {
    "get": lambda kv, key: kv.get(key),
    "get of many": lambda kv, key: kv.get(["fine", key]),
    "get of many as streams": lambda kv, key: kv.get(["fine", key], "stream"),
    "get_many": lambda kv, key: kv.get_many([key]),
    "_try_get": lambda kv, key: kv._try_get(key),
    "get_with_metadata": lambda kv, key: kv.get_with_metadata(key),
    "get_with_metadata of many": lambda kv, key: kv.get_with_metadata(["fine", key]),
    "get_metadata": lambda kv, key: kv.get_metadata(key),
    "in": lambda kv, key: key in kv,
    "put": lambda kv, key: kv.put(key, "value"),
    "delete": lambda kv, key: kv.delete(key),
    "touch": lambda kv, key: kv.touch(key, expiration_ttl=60),
    "increment": lambda kv, key: kv.increment(key),
}
ONE_KEY = sorted(CALLS.keys() - {"get", "get_with_metadata"})  # these take a list too


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", "Key name cannot be empty."),
        (".", '"." is not allowed as a key name.'),
        ("..", '".." is not allowed as a key name.'),
        (
            "ab\ud800",
            "a key must be text that UTF-8 can encode; there is a lone surrogate at index 2",
        ),
        (
            "\udfff",
            "a key must be text that UTF-8 can encode; there is a lone surrogate at index 0",
        ),
    ],
)
def test_text_that_is_no_key(kv, refused, call, key, text):
    kv.put("fine", "value")
    with refused(text):
        CALLS[call](kv, key)


@pytest.mark.parametrize("key", [b"key", bytearray(b"key"), 5, None, True, 1.5, object()])
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_text_is_no_key(kv, refused, call, key):
    with refused(f"a key must be a str, not {type(key).__name__}", InvalidType):
        CALLS[call](kv, key)


@pytest.mark.parametrize("key", [["key"], ("key",), {"key": 1}, {"key"}, [["key"]]])
@pytest.mark.parametrize("call", ONE_KEY)
def test_several_keys_where_one_is_wanted(kv, refused, call, key):
    with refused(f"a key must be a str, not {type(key).__name__}", InvalidType):
        CALLS[call](kv, key)


# -- metadata

CIRCULAR: list = []
CIRCULAR.append(CIRCULAR)
DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({1, 2}, "Object of type set is not JSON serializable"),
        (b"bytes", "Object of type bytes is not JSON serializable"),
        (object, "Object of type type is not JSON serializable"),
        ([1, [b""]], "Object of type bytes is not JSON serializable"),
        ({("a", "b"): 1}, "keys must be str, int, float, bool or None, not tuple"),
        (math.nan, "Out of range float values are not JSON compliant"),
        ({"a": [math.inf]}, "Out of range float values are not JSON compliant"),
        (-math.inf, "Out of range float values are not JSON compliant"),
        (CIRCULAR, "Circular reference detected"),
        (DEEP, "maximum recursion depth exceeded"),
        (10**5000, "Exceeds the limit"),
    ],
    ids=["set", "bytes", "type", "inside", "key", "nan", "inf", "-inf", "circular", "deep", "long"],
)
def test_metadata_that_json_can_not_say(kv, metadata, why):
    kv.put("key", "value", metadata="before")
    version = kv._store.version
    with pytest.raises(InvalidRequest, match=r"^metadata must be JSON: ") as caught:
        kv.put("key", "other", metadata=metadata)
    assert why in str(caught.value)
    with pytest.raises(InvalidRequest, match=r"^a value of type json must be JSON: ") as caught:
        kv.put("key", metadata, type="json")
    assert why in str(caught.value)
    assert kv._store.version == version
    assert kv.get_with_metadata("key")[:2] == ("value", "before")


@pytest.mark.parametrize(
    "metadata",
    [
        0,
        False,
        "",
        [],
        {},
        "\ud800 alone",
        {"\udfff": "\x00\u2028"},
        [None],
        1e308,
        -(2**80),
        {"a": {"b": [1, 2, {"c": None}]}},
        '😀é\n"\\',
    ],
)
def test_metadata_that_json_can_say_comes_back(kv, metadata):
    kv.put("key", "value", metadata=metadata)
    kv.put("without", "value")
    assert kv.get_metadata("key").metadata == metadata
    assert kv.get_with_metadata("key").metadata == metadata
    assert [info.metadata for info in kv.list().keys] == [metadata, None]


def test_metadata_deeply_nested_is_read_from_deep_down(kv):
    """JSON of 1,024 bytes nests to 512; how much of the stack is left differs between calls."""
    nested: list = []
    for _ in range(511):
        nested = [nested]
    kv.put("key", "value", metadata=nested)
    assert kv.list().keys[0].metadata == nested

    def deep(levels):
        return deep(levels - 1) if levels else (kv.list().keys, kv.get_with_metadata("key"))

    with pytest.raises(InvalidRequest, match="metadata in the store is not JSON: maximum recurs"):
        deep(600)


def test_metadata_that_something_else_wrote(kv):
    for number, data in enumerate([b"{", b"1,2", b"]", b"\xff", b"NaN"]):
        kv._store.put(kv._name("key"), b"value", metadata=data)
        kv.put("other", "value", metadata=number)
        for call in (kv.list, lambda: kv.get_with_metadata("key"), lambda: kv.get_metadata("key")):
            with pytest.raises(InvalidRequest, match=r"^metadata in the store is not JSON: "):
                call()
        assert kv.get("key") == "value"


# -- times


def test_a_lifetime_wins_over_a_moment(kv):
    kv.put("key", "value", expiration=NOW + 500, expiration_ttl=100)
    assert kv.get_metadata("key").expiration == NOW + 100
    kv.put("key", "value", expiration="never looked at", expiration_ttl=200)
    assert kv.get_metadata("key").expiration == NOW + 200
    kv.touch("key", expiration=NOW + 500, expiration_ttl=300)
    assert kv.get_metadata("key").expiration == NOW + 300
    kv.persist("key")
    assert kv.get_metadata("key").expiration is None


@pytest.mark.parametrize("value", [0, -1, -(10**30), NOW, NOW - 1])
def test_a_moment_that_has_passed(kv, refused, value):
    kv.put("key", "value", expiration_ttl=100)
    text = (
        f"Invalid expiration of {value}. Please specify integer greater than the current number of "
        "seconds since the UNIX epoch."
    )
    for call in (lambda **times: kv.put("key", "other", **times), lambda **t: kv.touch("key", **t)):
        with refused(text):
            call(expiration=value)


# -- lists


@pytest.mark.parametrize("name", ["prefix", "start_after", "delimiter"])
def test_texts_of_a_list(kv, refused, name):
    for value in (b"a", 5, ["a"]):
        with refused(f"{name} must be a str, not {type(value).__name__}", InvalidType):
            kv.list(**{name: value})
    with refused(
        f"{name} must be text that UTF-8 can encode; there is a lone surrogate at index 1"
    ):
        kv.list(**{name: "a\ud800"})
    if name != "delimiter":
        with refused(
            f"{name} must be text that UTF-8 can encode; there is a lone surrogate at index 1"
        ):
            kv.keys(**{name: "a\ud800"})  # at once, not with the first key
    if name == "prefix":
        with refused(
            "prefix must be text that UTF-8 can encode; there is a lone surrogate at index 1"
        ):
            kv.count("a\ud800")
