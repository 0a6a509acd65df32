"""A JSON array, read item by item."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.errors import InvalidRequest
from kvengine.server.api.rest import json_array
from kvengine.server.api.rest.json_array import items

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@pytest.fixture(autouse=True, params=[1, 3, 1 << 16])
def read_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array._Body, "read_bytes", request.param)


@given(st.lists(values, max_size=8), st.sampled_from([None, 1]), st.booleans())
def test_as_json_has_it(found: list[Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(found, indent=indent, ensure_ascii=ascii_only)
    data = text.encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(InvalidRequest):
            list(items(io.BytesIO(data)))
        return
    assert list(items(io.BytesIO(data))) == found


@given(st.binary(max_size=30) | st.text('[]{},:"1e.-+ \\untrfals', max_size=30).map(str.encode))
def test_nothing_but_arrays(data: bytes) -> None:
    try:
        expected = json.loads(data.decode(), parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        expected = None
    if isinstance(expected, list):
        assert list(items(io.BytesIO(data))) == expected
    else:
        with pytest.raises(InvalidRequest):
            list(items(io.BytesIO(data)))


@pytest.mark.parametrize("behind", [b"\xcd", b"\n\xe2\x82", b"\xff"])
def test_half_a_character_behind_the_array_is_refused(behind: bytes) -> None:
    with pytest.raises(InvalidRequest, match="nothing after the ]"):
        list(items(io.BytesIO(b"[1]" + behind)))


def test_deep_brackets_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        list(items(io.BytesIO(b"[" * 100_000)))


def test_what_is_wrong_is_found_without_reading_on() -> None:
    file = io.BytesIO(b'[{"a": 1 "b": 2}' + b" " * 40 + b"," * (1 << 20))
    with pytest.raises(InvalidRequest):
        list(items(file))
    assert file.tell() < 1 << 18
