"""What is allowed to the last byte, and refused one above, in each profile."""

import dataclasses
import io

import pytest

from kvengine import (
    RELAXED,
    STRICT,
    Database,
    InvalidRequest,
    InvalidType,
    LimitExceeded,
    Limits,
)
from kvengine.testing.clock import START

NOW = int(START)
MAX = 25 << 20
KEY_TOO_LONG = "UTF-8 encoded length of {} exceeds key length limit of {}."
VALUE_TOO_LONG = "Value length of {} exceeds limit of {}."
METADATA_TOO_LONG = "Metadata length of {} exceeds limit of {}."


@pytest.fixture
def tight(clock):
    """A namespace with limits that are quickly reached."""
    limits = Limits(
        key_bytes=8,
        value_bytes=10,
        metadata_bytes=6,
        ttl_min_s=5,
        cache_ttl_min_s=2,
        list_keys=3,
        get_keys=2,
        get_bytes=15,
        get_types=("bytes",),
        title_chars=4,
    )
    with Database.in_memory(clock=clock, limits=limits) as db:
        yield db.namespace("tidy")


# -- keys


@pytest.mark.parametrize("text", ["k", "é", "€", "😀", "\0", "/", "\x7f", "\u07ff", "\uffff"])
def test_a_key_has_512_bytes_whatever_its_characters(kv, refused, text):
    size = len(text.encode())
    key = text * (512 // size) + "k" * (512 % size)
    kv.put(key, "value")
    assert kv.get(key) == "value"
    assert [info.name for info in kv.list().keys] == [key]
    assert kv.get_metadata(key).name == key
    for longer in (key + "k", "k" + key):
        with refused(KEY_TOO_LONG.format(513, 512), LimitExceeded, status=414):
            kv.put(longer, "value")
        with refused(KEY_TOO_LONG.format(513, 512), LimitExceeded, status=414):
            kv.get(longer)
    kv.delete(key)


@pytest.mark.parametrize("key", ["...", "a.", ".a", ". ", " ", "./", "../", "\0", "\0.", ".\0"])
def test_all_other_keys_are_valid(kv, key):
    kv.put(key, key)
    assert kv.get(key) == key
    assert key in kv


# -- values


@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        lambda size: memoryview(bytes(size)),
        lambda size: "x" * size,
        lambda size: "é" * (size // 2) + "x" * (size % 2),
        lambda size: io.BytesIO(bytes(size)),
    ],
    ids=["bytes", "bytearray", "memoryview", "str", "two bytes a character", "stream"],
)
def test_a_value_has_25_mib(kv, make):
    kv.put("key", make(MAX))
    assert kv.get_metadata("key").size == MAX
    version = kv._store.version
    with pytest.raises(LimitExceeded) as caught:
        kv.put("key", make(MAX + 1))
    assert str(caught.value) == VALUE_TOO_LONG.format(MAX + 1, MAX)
    assert caught.value.status == 413
    assert (kv._store.version, kv.get_metadata("key").size) == (version, MAX)


def test_the_items_of_a_buffer_may_have_more_than_a_byte(tight):
    """Limits, sizes and counters are about bytes."""
    tight.put("key", memoryview(b"12345678").cast("Q"), size=8)
    assert tight.get("key", "bytes") == b"12345678"
    assert tight._meter.bytes_in == 8
    with pytest.raises(LimitExceeded, match="Value length of 16 exceeds limit of 10"):
        tight.put("key", memoryview(bytes(16)).cast("Q"))
    with pytest.raises(InvalidRequest, match="the value has 8 bytes, not 1"):
        tight.put("key", memoryview(bytes(8)).cast("Q"), size=1)


def test_a_stream_that_is_too_long_is_not_read_to_its_end(kv, refused):
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size=-1):
            self.given += size
            return bytes(size)

    stream = Endless()
    with refused(VALUE_TOO_LONG.format(26 << 20, MAX), LimitExceeded, status=413):
        kv.put("key", stream)
    assert stream.given == 26 << 20


# -- metadata


@pytest.mark.parametrize("text", ["x", "é", "😀", "\n"])
def test_metadata_has_1024_bytes_as_json(kv, refused, text):
    size = len(text.encode()) + (text == "\n")  # JSON escapes it
    fitting = text * (1022 // size) + "x" * (1022 % size)
    kv.put("key", "value", metadata=fitting)
    assert kv.get_with_metadata("key").metadata == fitting
    with refused(METADATA_TOO_LONG.format(1025, 1024), LimitExceeded, status=413):
        kv.put("key", "value", metadata=fitting + "x")


# -- times


@pytest.mark.parametrize("ttl", [1, 2, 59])
def test_relaxed_allows_any_positive_lifetime(kv, strict, ttl):
    kv.put("key", "value", expiration_ttl=ttl)
    assert kv.get_metadata("key").expiration == NOW + ttl
    kv.put("key", "value", expiration=NOW + ttl)
    assert kv.get_metadata("key").expiration == NOW + ttl
    with pytest.raises(InvalidRequest, match="Expiration TTL must be at least 60"):
        strict.put("key", "value", expiration_ttl=ttl)
    with pytest.raises(InvalidRequest, match="must be at least 60 seconds in the future"):
        strict.put("key", "value", expiration=NOW + ttl)
    assert (strict.get("key"), strict._meter.writes) == (None, 0)


def test_moments_are_whole_seconds_on_a_clock_that_has_more(kv, clock):
    clock.advance(0.75)
    kv.put("key", "value", expiration=NOW + 1)
    assert kv.get_metadata("key").expiration == NOW + 1
    clock.advance(0.249)
    assert kv.get("key") == "value"
    clock.advance(0.001)
    assert kv.get("key") is None


@pytest.mark.parametrize("ttl", [1 << 31, (1 << 53) - NOW])
def test_lifetimes_may_be_long(kv, refused, clock, ttl):
    kv.put("key", "value", expiration_ttl=ttl)
    assert kv.get_metadata("key").expiration == NOW + ttl
    assert kv.list().keys[0].expiration == NOW + ttl
    end = (1 << 53) + 1
    for name, value in (("expiration_ttl", end - NOW), ("expiration", end), ("expiration", 9**99)):
        with refused(f"Invalid {name} of {value}. It must end before {1 << 53}."):
            kv.put("key", "value", **{name: value})
    clock.advance(1000)
    assert kv.get("key") == "value"


# -- a profile of one's own


def test_a_limit_of_ones_own_holds(tight):
    tight.put("k" * 8, b"v" * 10, metadata="meta", expiration_ttl=5)
    calls = {
        KEY_TOO_LONG.format(9, 8): lambda: tight.put("k" * 9, b""),
        VALUE_TOO_LONG.format(11, 10): lambda: tight.put("key", b"v" * 11),
        METADATA_TOO_LONG.format(7, 6): lambda: tight.put("key", b"", metadata="metad"),
        "Invalid expiration_ttl of 4. Expiration TTL must be at least 5.": lambda: tight.put(
            "key", b"", expiration_ttl=4
        ),
        "Invalid cache_ttl of 1. Cache TTL must be at least 2.": lambda: tight.get(
            "key", cache_ttl=1
        ),
        "Invalid key_count_limit of 4. Please specify an integer less than 3.": lambda: tight.list(
            limit=4
        ),
        "You can request a maximum of 2 keys": lambda: tight.get(["a", "b", "c"], "bytes"),
        '"text" is not a valid type. Use "bytes"': lambda: tight.get(["a"]),
    }
    for text, call in calls.items():
        with pytest.raises(InvalidRequest) as caught:
            call()
        assert str(caught.value) == text
    tight.put("more", b"v" * 6)
    with pytest.raises(LimitExceeded) as caught:
        tight.get(["k" * 8, "more"], "bytes")
    assert str(caught.value) == "Total size of request exceeds the limit of 15 bytes"


def test_relaxed_says_which_types_many_keys_may_have(kv, refused):
    with refused('"xml" is not a valid type. Use "bytes", "json", "stream" or "text"'):
        kv.get(["key"], "xml")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("key_bytes", [0, 1001, 1.5, "512", True, None]),
        ("value_bytes", [0, (64 << 20) + 1]),
        ("metadata_bytes", [-1, 1025]),
        ("bulk_bytes", [0, (120 << 20) + 1]),
        ("ttl_min_s", [-1, 0.5, None]),
        ("cache_ttl_min_s", [-1, "30"]),
        ("list_keys", [0, 100_001]),
        ("get_keys", [0, "100", True]),
        ("get_bytes", [0, -1, 1.5]),
        ("get_types", [(), "text", ["text"], ("text", "xml"), ([],), None]),
        ("bulk_pairs", [0]),
        ("title_chars", [0]),
    ],
)
def test_a_limit_that_can_not_be_is_refused(name, values):
    for value in values:
        with pytest.raises(InvalidRequest, match=f"^limit {name} must be "):
            Limits(**{name: value})


def test_profiles():
    assert Limits() == RELAXED
    assert dataclasses.replace(RELAXED, key_bytes=100).key_bytes == 100
    for limits, expected in (("strict", STRICT), ("relaxed", RELAXED), (STRICT, STRICT)):
        with Database.in_memory(limits=limits) as db:
            assert db.limits == db.namespace("a").limits == expected
    for wrong in ("Strict", "", None, 5, {}, []):
        with pytest.raises(InvalidRequest, match="limits must be 'relaxed' or 'strict' or a Limi"):
            Database.in_memory(limits=wrong)


def test_a_time_is_refused_by_its_type_too(kv, refused):
    for value in (60.0, "60", True, b"60", [60], float("nan")):
        kind = type(value).__name__
        for name in ("expiration", "expiration_ttl"):
            if name == "expiration_ttl" and value == 60.0:
                continue  # a lifetime may have a fraction
            text = f"Invalid {name} of {value!r}. Please specify an integer, not {kind}."
            with refused(text, InvalidType):
                kv.put("key", "value", **{name: value})
            with refused(text, InvalidType):
                kv.touch("key", **{name: value})
        text = f"Invalid cache_ttl of {value!r}. Please specify an integer, not {kind}."
        with refused(text, InvalidType):
            kv.get("key", cache_ttl=value)
        text = f"Invalid key_count_limit of {value!r}. Please specify an integer, not {kind}."
        with refused(text, InvalidType):
            kv.list(limit=value)
