"""Messages of calls: what goes in comes out, and what is no message is refused."""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
import sys
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvengine import RELAXED
from kvengine.client import packing
from kvengine.client.packing import pack, unpack
from kvengine.errors import InvalidType, ProtocolError
from kvengine.server.http.body.body_shape import measure_message

texts = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=5)  # surrogates too
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False)
    | st.binary() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.fixture(autouse=True, params=[0, packing.PIECE_BYTES])
def piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are read in parts, and as a whole."""
    monkeypatch.setattr(packing, "PIECE_BYTES", request.param)


def count(value: Any) -> int:
    """Return how many values and names there are."""
    if isinstance(value, dict):
        return 1 + sum(1 + count(item) for item in value.values())
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


def depth(value: Any) -> int:
    """Return how deep values are nested; what is empty has none in it."""
    if not isinstance(value, (list, dict)) or not value:
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value))


@given(values)
@example({"\ud800": {"\udc00": [1]}, "a": "\ud800"})
@example([1 << 64, -(1 << 63) - 1, (1 << 64) - 1, -(1 << 63)])
@example({f"{n}": "x" * n for n in (31, 32, 255, 256, 65535, 65536)})
@example([bytes(n) for n in (0, 1, 2, 4, 8, 16, 255, 256, 65536)])
@example([[None] * 15, [None] * 16, [None] * 65536, {str(n): n for n in range(16)}])
def test_what_goes_in_comes_out(value: Any) -> None:
    message = pack(value)
    assert repr(unpack(message)) == repr(value)  # 1 == True == 1.0
    values, levels = measure_message(message)
    assert values >= count(value)
    text = repr(value)
    if "\\ud" not in text:
        assert (values, levels) == (count(value), depth(value))


class Number(IntEnum):
    ONE = 1


class Word(StrEnum):
    A = "a"


class Pair(NamedTuple):
    key: str
    value: bytes


@dataclass
class Record:
    n: int
    pair: Pair


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ((1, (2,)), [1, [2]]),
        (Pair("a", b"b"), ["a", b"b"]),
        (Record(1, Pair("a", b"b")), {"n": 1, "pair": ["a", b"b"]}),
        (Decimal("1.50"), "1.50"),
        (Number.ONE, 1),
        (Word.A, "a"),
        ({Word.A: Number.ONE}, {"a": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (bytearray(b"a"), b"a"),
        (memoryview(b"abcd")[::2], b"ac"),
    ],
)
def test_types_that_are_sent_as_others(value: Any, found: Any) -> None:
    got = unpack(pack(value))
    assert (got, type(got)) == (found, type(found))


def test_a_file_is_sent_as_what_it_holds() -> None:
    assert unpack(pack([io.BytesIO(b"a")])) == [b"a"]


@pytest.mark.parametrize(
    "value",
    [{1, 2}, uuid.UUID(int=0), dt.date(2026, 1, 1), dt.timedelta(1), object(), Number,
     {b"a": 1}, {("a",): 1}, [{uuid.UUID(int=0): 1}], [10**5000]],
)  # fmt: skip
def test_what_is_refused(value: Any) -> None:
    with pytest.raises(InvalidType, match="cannot serialize"):
        pack(value)


@pytest.mark.parametrize("text", ["[" * 512 + "]" * 512, '{"":' * 204 + "1" + "}" * 204])
def test_metadata_may_be_as_deep_as_its_length_allows(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one such key would keep everybody from the list that it is in."""
    monkeypatch.setattr(packing, "PIECE_BYTES", len(text))
    metadata = json.loads(text)
    assert len(text) <= RELAXED.metadata_bytes
    assert unpack(pack([[["k", None, metadata]], True, None, []]))[0][0][2] == metadata


def test_a_list_in_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidType):
        pack(value)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "truncated"),
        (b"\xc1", "malformed"),
        (b"\x01\x02", "trailing"),
        (b"\xa2\xff\xff", "UTF-8"),
        (b"\xdd\xff\xff\xff\xff\xc0", "truncated"),  # 34 GB, if it were believed
        (b"\xdf\xff\xff\xff\xff\xc0", "truncated"),
        (b"\xc6\xff\xff\xff\xff\xc0", "truncated"),
        (b"\x81\x80\xc0", "hashable"),
        (b"\xd4\x07a", "ValueError"),  # an extension type that nobody has
        (b"\xd4\x02a", "ValueError"),  # no digits
        (b"\xd4\x03\xc1", "malformed"),
        (b"\xd4\x03\x01", "TypeError"),  # pairs that are none
        (b"\x91" * 100_000, "RecursionError"),
        (b"\x81\x01" * 100_000, "RecursionError"),
    ],
)
def test_what_is_no_message(data: bytes, found: str) -> None:
    with pytest.raises(ProtocolError, match=f"MessagePack.*{found}"):
        unpack(data)
    measure_message(data)


MESSAGE = pack([["key", b"value" * 20, 1 << 80], {"metadata": {"\ud800": [1.5, None]}, "n": 7}])


@given(st.integers(0, len(MESSAGE) - 1))
def test_a_message_that_is_cut(size: int) -> None:
    with pytest.raises(ProtocolError):
        unpack(MESSAGE[:size])
    measure_message(MESSAGE[:size])


@given(st.binary() | st.lists(st.integers(0, 255)).map(bytes), st.integers(0, len(MESSAGE) - 1))
def test_bytes_that_are_changed(data: bytes, at: int) -> None:
    for message in (data, MESSAGE[:at] + data + MESSAGE[at + len(data) :]):
        values, levels = measure_message(message)
        try:
            found = unpack(message)
        except ProtocolError:
            continue
        if isinstance(found, (list, dict)):
            assert values >= count(found)
        assert levels <= values


def test_nesting_beyond_all_levels() -> None:
    assert measure_message(b"\x91" * 10_000)[1] > 200
    inner = b"\xc7\x02\x03\x91"  # pairs in pairs, which are counted by their bytes
    assert measure_message(inner + b"\xc0")[0] >= 2


BLOCKED = """
import sys
sys.modules["msgspec"] = None
import kvengine
try:
    kvengine.connect("http://127.0.0.1:9")
except kvengine.InvalidRequest as error:
    assert "pip install 'kvengine[client]'" in str(error), error
else:
    raise AssertionError("it connects")
"""


def test_only_those_who_connect_need_the_library() -> None:
    subprocess.run([sys.executable, "-c", BLOCKED], check=True, timeout=60)
