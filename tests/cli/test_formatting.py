"""What people and machines read gives back, or at least tells apart, every key."""

import base64
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from kvengine.cli.formatting import bytes_field, json_line, printable, size_text


@given(st.lists(st.binary(max_size=12), unique=True, min_size=2, max_size=20))
def test_printable_is_safe_and_tells_keys_apart(keys: list[bytes]) -> None:
    shown = [printable(key) for key in keys]
    assert all(text.isprintable() for text in shown)
    assert len(set(shown)) == len(keys)


def test_printable_of_tricky_keys() -> None:
    assert printable(b"\xc2\x9b") != printable(b"\x9b")  # a C1 control, and a lone byte
    assert printable(b"\\n") != printable(b"\n")
    assert printable("é/日本".encode()) == "é/日本"
    assert printable("\u202e\U000e0001".encode()) == r"\u202e\U000e0001"


@given(st.binary(max_size=12))
def test_json_gives_back_every_byte(data: bytes) -> None:
    line = json_line(bytes_field("key", data))
    assert line.isascii()
    assert line.count(b"\n") == 1
    ((name, value),) = json.loads(line).items()
    decoded = value.encode() if name == "key" else base64.b64decode(value)
    assert (decoded, name in {"key", "key_base64"}) == (data, True)


def test_a_figure_that_json_cannot_say_is_null() -> None:
    assert json.loads(json_line({"a": math.inf, "b": math.nan, "c": 1.5})) == {
        "a": None,
        "b": None,
        "c": 1.5,
    }


def test_sizes() -> None:
    sizes = (0, 999, 1000, 1_234_567, 999e6, 12.345e9)
    assert [size_text(size) for size in sizes] == [
        "0 B", "999 B", "1 kB", "1.23 MB", "999 MB", "12.35 GB",
    ]  # fmt: skip
