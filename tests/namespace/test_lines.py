"""Lines of an export: JSON as the json module would write it, whatever a record holds."""

import base64
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvengine
from kvengine.engine.order.scan import visit_records
from kvengine.errors import InvalidRequest
from kvengine.namespace.transfer.lines import Lines
from kvengine.testing.clock import ManualClock

SIZES = (0, 1, 127, 128, 129, 255, 256, 1000, 4096, 4097, 65_535, 65_536, 300_000)


@pytest.fixture
def store() -> Iterator[kvengine.Store]:
    with kvengine.Store.in_memory(clock=ManualClock()) as store:
        yield store


def written(store: kvengine.Store, full: int = 1 << 20, **around: bytes) -> list[bytes]:
    """Return what Lines gives of a store, take by take."""
    lines = Lines(0, full, **around)
    blocks, after = [], None
    while True:
        after = visit_records(store._parts, store._parts.key_order, b"", after, lines)
        blocks.append(bytes(lines.take()))
        if after is None:
            return blocks


def line_of(store: kvengine.Store, value: bytes, **options) -> bytes:
    store.put(b"k", value, **options)
    line = b"".join(written(store))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    return line


@pytest.mark.parametrize("byte", range(128))
def test_every_ascii_character_is_escaped_as_json_does_it(store, byte: int) -> None:
    text = f"a{chr(byte)}b"
    expected = json.dumps({"key": "k", "value": text}, separators=(",", ":")).encode() + b"\n"
    if byte == 0x7F:  # json.dumps escapes more than it must
        expected = expected.replace(rb"\u007f", b"\x7f")
    assert line_of(store, text.encode()) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("unit", ["x", '"', "\\\n", "\0", "é\U0001f600", "abc\x1f"])
def test_texts_of_any_size(store, size: int, unit: str) -> None:
    text = (unit * size)[:size]
    line = line_of(store, text.encode())
    assert json.loads(line) == {"key": "k", "value": text}


@pytest.mark.parametrize("size", SIZES)
def test_other_bytes_are_in_base64(store, size: int) -> None:
    value = b"\xff" + b"a" * size
    fields = json.loads(line_of(store, value))
    assert fields == {"key": "k", "value": base64.b64encode(value).decode(), "base64": True}


@pytest.mark.parametrize(
    "value", [b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", "é".encode()[:1]]
)
def test_what_is_nearly_text_is_none(store, value: bytes) -> None:
    assert json.loads(line_of(store, value))["base64"] is True


@given(value=st.binary(max_size=300), key=st.text(min_size=1, max_size=60))
def test_nothing_is_lost(value: bytes, key: str) -> None:
    with kvengine.Store.in_memory() as store:
        store.put(key.encode(errors="replace"), value)
        (line,) = written(store)
    fields = json.loads(line)
    assert fields["key"] == key.encode(errors="replace").decode()
    found = fields["value"]
    assert (base64.b64decode(found) if fields.get("base64") else found.encode()) == value


def test_expiration_is_in_whole_seconds(store) -> None:
    """Rounded up: no copy ends before the key does."""
    line = line_of(store, b"v", expires_at=2_000_000_000.25)
    assert line == b'{"key":"k","value":"v","expiration":2000000001}\n'


def test_metadata_stands_as_it_is_stored(store) -> None:
    line = line_of(store, b"v", metadata='{"é":[1.50,null]}'.encode())
    assert line == '{"key":"k","value":"v","metadata":{"é":[1.50,null]}}\n'.encode()


def test_metadata_with_line_breaks_goes_on_one_line(store) -> None:
    line = line_of(store, b"v", metadata=b'{\n\t"a": [1,\r\n2]\n}')
    assert line == b'{"key":"k","value":"v","metadata":{"a":[1,2]}}\n'


def test_metadata_that_is_no_json_is_not_passed_on(store) -> None:
    store.put(b"k", b"v", metadata=b"\n{")
    with pytest.raises(InvalidRequest, match="metadata in the store is not JSON"):
        written(store)


def test_only_living_keys_in_order(store) -> None:
    for number in range(3000):
        store.put(b"%04d" % number, b"v", expires_at=1_700_000_010 if number % 3 == 0 else None)
    for number in range(0, 3000, 5):
        store.delete(b"%04d" % number)
    store._parts.options.clock.advance(10)
    found = [json.loads(line)["key"] for line in b"".join(written(store)).splitlines()]
    assert found == [f"{n:04}" for n in range(3000) if n % 3 and n % 5]


def test_it_stops_when_there_is_enough(store) -> None:
    for number in range(10):
        store.put(b"%d" % number, b"v" * 100)
    blocks = written(store, full=300)
    assert [block.count(b"\n") for block in blocks] == [3, 3, 3, 1]
    assert written(store, full=300, first=b"[", later=b",") != blocks


def test_what_stands_before_lines(store) -> None:
    for number in range(3):
        store.put(b"%d" % number, b"v" * 100)
    text = b"".join(written(store, full=1, first=b"[", later=b","))
    assert [entry["key"] for entry in json.loads(text + b"]")] == ["0", "1", "2"]


def test_what_lines_says_of_itself(store) -> None:
    lines = Lines(1, 1 << 20)
    assert (lines.used, lines.keys, lines.value_bytes, lines.last_key) == (0, 0, 0, None)
    assert lines.take() == b""
    store.put("nä".encode(), b"12")
    store.put("nö".encode(), b"345")
    assert visit_records(store._parts, store._parts.key_order, b"n", None, lines) is None
    assert (lines.keys, lines.value_bytes, lines.last_key) == (2, 5, "ö")
    size = lines.used
    assert len(lines.take()) == size
    assert (lines.used, lines.keys, lines.last_key) == (0, 2, "ö")


def test_a_damaged_value_is_no_line(tmp_path) -> None:
    value = b"a value to be found" + b"." * 5000
    with kvengine.Store(tmp_path / "s", log_writes="pwrite") as store:
        store.put(b"k", value)
        (log,) = (path for path in (tmp_path / "s").iterdir() if value in path.read_bytes())
        with log.open("r+b") as file:
            file.seek(log.read_bytes().index(value))
            file.write(b"A")
        with pytest.raises(kvengine.CorruptData, match="value"):
            written(store)
