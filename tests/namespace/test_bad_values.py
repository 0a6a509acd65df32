"""Values, streams, versions and numbers that can't be: a clear error, and nothing written."""

import io

import pytest

from kvengine import InvalidRequest, InvalidType, VersionConflict

# -- values


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (5, InvalidType, "type='json' stores other things"),
        (None, InvalidType, "not NoneType"),
        ({"a": 1}, InvalidType, "not dict"),
        (["a"], InvalidType, "not list"),
        (memoryview(bytes(8))[::2], InvalidType, "not memoryview"),
        ("lone \ud800", InvalidRequest, "there is a lone surrogate at index 5"),
        (io.StringIO("text"), InvalidType, "a stream must return bytes, not str"),
        (io.StringIO(""), InvalidType, "open the file in binary mode"),
    ],
)
def test_what_is_no_value(kv, value, kind, text):
    kv.put("key", "before")
    version = kv._store.version
    with pytest.raises(kind, match=text):
        kv.put("key", value)
    assert (kv._store.version, kv.get("key")) == (version, "before")


@pytest.mark.parametrize("kind", ["text", "bytes", "stream", "Json", 5, b"json"])
def test_the_type_of_a_value_to_put(kv, refused, kind):
    with refused(f"the type of a value to put is None or 'json', not {kind!r}"):
        kv.put("key", "value", type=kind)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b"nul", b"NaN", b"[Infinity]", b"1 2", b"[" * 100_000, b"1" * 5000],
    ids=lambda data: repr(data[:5]),
)
def test_a_value_that_is_no_json(kv, refused, data):
    kv.put("key", data)
    with pytest.raises(InvalidRequest, match=r"^the value of 'key' is not JSON: "):
        kv.get("key", "json")
    with pytest.raises(InvalidRequest, match=r"^the value of 'key' is not JSON: "):
        kv.get_with_metadata("key", "json")
    with refused("At least one of the requested keys corresponds to a non-json value"):
        kv.get(["nope", "key"], "json")
    assert kv.get("key", "bytes") == data


def test_json_may_begin_with_a_byte_order_mark(kv):
    kv.put("key", b'\xef\xbb\xbf{"a": 1}')
    assert kv.get("key", "json") == {"a": 1}


# -- streams


class Stream:
    """Gives what it is told to, piece by piece."""

    def __init__(self, *pieces):
        self.pieces = iter(pieces)

    def read(self, size=-1):
        piece = next(self.pieces, b"")
        if isinstance(piece, BaseException):
            raise piece
        return piece


@pytest.mark.parametrize(
    ("pieces", "size", "text"),
    [
        ([b"123"], 4, "the stream should have 4 bytes, and ended after 3"),
        ([], 1, "the stream should have 1 bytes, and ended after 0"),
        ([b"123", b"45"], 4, "the stream should have 4 bytes, and goes on after"),
        ([b"1"], 0, "the stream should have 0 bytes, and goes on after"),
        ([b"1", None, b"2"], None, "has no data yet"),
        ([b"1", "2"], None, "return bytes, not str"),
        ([b"1", 2], None, "return bytes, not int"),
        ([b"1", 0], None, "return bytes, not int"),
    ],
)
def test_a_stream_that_is_not_what_it_should_be(kv, pieces, size, text):
    version = kv.put("key", "before")
    with pytest.raises(InvalidRequest, match=text):
        kv.put("key", Stream(*pieces), size=size)
    assert (kv._store.version, kv.get("key")) == (version, "before")


@pytest.mark.parametrize("error", [OSError("gone"), ZeroDivisionError(), KeyboardInterrupt()])
def test_a_stream_that_raises(kv, error):
    version = kv.put("key", "before")
    with pytest.raises(type(error)):
        kv.put("key", Stream(b"first", error))
    assert (kv._store.version, kv.get("key")) == (version, "before")


def test_a_stream_in_pieces_of_any_kind(kv):
    kv.put("key", Stream(b"12", bytearray(b"34"), memoryview(b"56")), size=6)
    assert kv.get("key") == "123456"
    kv.put("key", Stream(), size=0)
    assert kv.get("key") == ""
    with pytest.raises(InvalidRequest, match="the value has 2 bytes, not 3"):
        kv.put("key", b"12", size=3)
    for size, kind in (("5", InvalidType), (True, InvalidType), (1.0, InvalidType), (-1, None)):
        with pytest.raises(kind or InvalidRequest, match=r"^size must be "):
            kv.put("key", b"12345", size=size)
    assert kv.get("key") == ""


def test_a_stream_may_use_the_namespace_it_is_put_into(kv):
    class Reading:
        def read(self, size=-1):
            found = kv.get("other", "bytes") or b""
            kv.delete("other")
            return found

    kv.put("other", "its value")
    kv.put("key", Reading())
    assert kv.get("key") == "its value"


# -- versions and numbers


@pytest.mark.parametrize("call", ["put", "delete", "touch"])
def test_versions(kv, call):
    version = kv.put("key", "value")
    changes = {
        "put": lambda wanted: kv.put("key", "other", if_version=wanted),
        "delete": lambda wanted: kv.delete("key", if_version=wanted),
        "touch": lambda wanted: kv.touch("key", expiration_ttl=60, if_version=wanted),
    }
    change = changes[call]
    for wrong in ("1", 1.0, True, False, [version]):
        with pytest.raises(InvalidType, match=r"^if_version must be an int, not "):
            change(wrong)
    with pytest.raises(InvalidRequest, match="if_version must be a version or 0, not -1"):
        change(-1)
    for wrong in (0, version - 1, version + 1):
        with pytest.raises(VersionConflict, match=f"expected version {wrong}, found {version}"):
            change(wrong)
    assert kv._store.version == version
    assert change(version) == version + 1


@pytest.mark.parametrize("value", ["", "x", "1.5", "1_000", " 1", "1\n", "0x1", "٣", "9" * 20, "-"])
def test_increment_of_what_is_no_number(kv, refused, value):
    kv.put("key", value)
    with refused("the value of 'key' is not a whole number of 64 bits"):
        kv.increment("key")


def test_increment_checks_what_it_adds(kv, refused):
    for name in ("by", "initial"):
        for value in (1.0, "1", True, None):
            text = f"{name} must be an int, not {type(value).__name__}"
            with refused(text, InvalidType):
                kv.increment("key", **{name: value})
    for by in (2**63, -(2**63) - 1, 10**5000):
        with refused("the sum at 'key' would have more than 64 bits"):
            kv.increment("key", by)
    assert kv.increment("key", 2**63 - 1) == 2**63 - 1
    with refused("the sum at 'key' would have more than 64 bits"):
        kv.increment("key")
    assert kv.increment("key", -(2**63)) == -1
    assert kv.increment("key", -(2**63) + 1) == -(2**63)
    assert kv.get("key") == str(-(2**63))


@pytest.mark.parametrize("durability", ["fast", 5, ["os"]])
def test_durability(kv, refused, durability):
    kv.put("key", "value")
    for call in (
        lambda: kv.put("key", "other", durability=durability),
        lambda: kv.delete("key", durability=durability),
    ):
        with refused(f"durability must be one of sync, group, interval, os, not {durability!r}"):
            call()
