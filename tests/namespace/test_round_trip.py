"""Out and in again: whatever a namespace holds, an export says, and an import makes of it."""

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvengine
from kvengine.errors import InvalidRequest
from kvengine.testing.clock import START, ManualClock

KEYS = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet='/\0\n"\\é\U0001f600 .a', min_size=1, max_size=120),
    st.integers(1, 128).map(lambda n: "\U0001f600" * n),
)
VALUES = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
EXPIRATIONS = st.none() | st.integers(int(START) + 1, 1 << 53)
PAIRS = st.dictionaries(KEYS, st.tuples(VALUES, JSON, EXPIRATIONS), max_size=8)


def content(kv) -> list[tuple[Any, ...]]:
    found = []
    for info in kv.list().keys:
        result = kv.get_with_metadata(info.name, "bytes")
        found.append((*info, result.value, result.metadata))
    return found


def fill(kv, pairs: dict) -> None:
    for key, (value, metadata, expiration) in pairs.items():
        try:
            kv.put(key, value, metadata=metadata, expiration=expiration)
        except InvalidRequest:  # a key of too many bytes, or too much metadata
            assert len(key.encode(errors="replace")) > 2 or key in (".", "..") or metadata


@pytest.mark.parametrize("shape", ["ndjson", "wrangler"])
@given(pairs=PAIRS)
def test_nothing_changes_on_the_way(shape: str, pairs: dict) -> None:
    with kvengine.Database.in_memory(clock=ManualClock()) as db:
        before, after = db.namespace("before"), db.namespace("after")
        fill(before, pairs)
        file = io.BytesIO()
        assert before.export_file(file, format=shape).keys == len(content(before))
        entries = (
            json.loads(file.getvalue())
            if shape == "wrangler"
            else [json.loads(line) for line in file.getvalue().split(b"\n")[:-1]]
        )
        for entry, (name, expiration, metadata, value, _) in zip(
            entries, content(before), strict=True
        ):
            text = entry["value"]
            assert entry["key"] == name
            assert (base64.b64decode(text) if "base64" in entry else text.encode()) == value
            assert (entry.get("expiration"), entry.get("metadata")) == (expiration, metadata)
        file.seek(0)
        report = after.import_file(file)
        assert (report.keys, report.expired, report.skipped) == (len(entries), 0, 0)
        assert content(after) == content(before)


def test_a_large_namespace(tmp_path) -> None:
    """Several blocks, batches and segments; some keys gone, some values large."""
    with kvengine.open(tmp_path / "db", durability="os", segment_bytes=1 << 20) as db:
        before, after = db.namespace("before"), db.namespace("after")
        for number in range(10_000):
            value = b"\xff" * 70_000 if number % 1000 == 0 else b"%d" % number * 20
            before.put(f"{number * 7919 % 10_000:05}", value, metadata=number)
        for number in range(0, 10_000, 3):
            before.delete(f"{number:05}")
        report = before.export_file(tmp_path / "pairs")
        assert report.keys == 6666
        assert (tmp_path / "pairs").stat().st_size == report.bytes
        assert after.import_file(tmp_path / "pairs").keys == 6666
        expected = list(before._store.scan(before._prefix))
        found = list(after._store.scan(after._prefix))
        assert [e.key[5:] for e in found] == [e.key[5:] for e in expected]
        assert [e[1:4] for e in found] == [e[1:4] for e in expected]
