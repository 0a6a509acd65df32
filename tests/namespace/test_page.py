"""From what the engine tells of keys to what a page shows: every head, its metadata, its end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import InvalidRequest, KeyInfo
from kvengine.namespace.page import key_infos

texts = st.text(max_size=10)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))


def head(name, metadata=b"", expires_at=None):
    return (b"d0000" + name.encode(), metadata, expires_at, 7, 100)


@given(
    rows=st.lists(
        st.tuples(texts, st.none() | values, st.none() | st.integers(1, 1 << 53)), max_size=20
    )
)
def test_each_key_is_shown_as_it_is(rows):
    heads = [
        head(
            name,
            b"" if metadata is None else json.dumps(metadata).encode(),
            None if end is None else float(end),
        )
        for name, metadata, end in rows
    ]
    infos = key_infos(heads, 5)
    assert infos == [KeyInfo(name, end, metadata) for name, metadata, end in rows]
    assert {type(info) for info in infos} <= {KeyInfo}
    assert {type(info.expiration) for info in infos} <= {int, type(None)}


def test_no_keys_no_page():
    assert key_infos([], 5) == []


def test_no_metadata_and_null_are_the_same():
    assert key_infos([head("a"), head("b", b"null")], 5) == [KeyInfo("a"), KeyInfo("b")]


@pytest.mark.parametrize("bad", [b"{", b"1,2", b"]", b"[", b"\xff", b"NaN", b" ", b"1]["])
def test_metadata_that_is_no_json(bad):
    """It is seen wherever it stands, also where its neighbors would make it whole."""
    for heads in (
        [head("a", bad)],
        [head("a"), head("b", bad), head("c", b"1")],
        [head("a", bad), head("b", b"]")],
        [head("a", b"["), head("b", bad)],
    ):
        with pytest.raises(InvalidRequest, match="metadata in the store is not JSON"):
            key_infos(heads, 5)


def test_a_key_that_no_namespace_wrote():
    with pytest.raises(InvalidRequest, match=r"key b'd0000\\xff' in the store is not UTF-8"):
        key_infos([(b"d0000\xff", b"", None, 1, 1)], 5)
