"""Arguments and results of calls as bytes: JSON, with the raw bytes of values behind it.

    4 bytes, little-endian: the size of the JSON; the JSON; the bytes of all values, in order

In the JSON {"$b": n} stands for the next n bytes, {"$s": n} for text of n bytes, and {"$d": [...]}
for an object with such names of its own.

Invariants:

* unpack(pack(x)) is x, with lists for tuples and text for decimals; what JSON can't say is refused
  by pack().
* Bytes that are no such message are a ProtocolError.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from typing import Any

from kvengine.errors import InvalidType, ProtocolError, pass_on

SIZE_BYTES = 4
LONG_TEXT = 1024  # characters; a longer text goes behind the JSON
BYTES, TEXT, OBJECT = "$b", "$s", "$d"


def pack(value: Any) -> bytes:
    """Return a message.

    Raises:
        InvalidType: something in it can't be sent.
    """
    blobs: list[Any] = []
    try:
        text = json.dumps(_packed(value, blobs), separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        pass_on(error)
        raise InvalidType(f"cannot serialize an argument: {error}") from None
    head = len(text).to_bytes(SIZE_BYTES, "little") + text.encode("ascii")
    return b"".join([head, *blobs])


def _packed(value: Any, blobs: list[Any]) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        if len(value) < LONG_TEXT:
            return value
        try:
            blobs.append(value.encode())
        except UnicodeEncodeError:
            return value  # a lone surrogate, which only JSON can escape
        return {TEXT: len(blobs[-1])}
    if isinstance(value, (bytes, bytearray, memoryview)):
        blob = value if isinstance(value, bytes) else bytes(value)
        blobs.append(blob)
        return {BYTES: len(blob)}
    if isinstance(value, (list, tuple)):
        return [_packed(item, blobs) for item in value]
    if isinstance(value, dict):
        if any(isinstance(name, str) and name.startswith("$") for name in value):
            return {OBJECT: [[name, _packed(item, blobs)] for name, item in value.items()]}
        return {name: _packed(item, blobs) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _packed(asdict(value), blobs)
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "read"):
        return _packed(value.read(), blobs)
    raise InvalidType(f"cannot serialize a value of type {type(value).__name__}")


def json_of(data: bytes) -> bytes:
    """Return the JSON of a message; what is cut short is refused by unpack()."""
    return data[SIZE_BYTES : SIZE_BYTES + int.from_bytes(data[:SIZE_BYTES], "little")]


def _loads(text: bytes) -> Any:
    return json.loads(text.decode("ascii"))


def unpack(data: bytes, loads: Callable[[bytes], Any] = _loads) -> Any:
    """Return what was packed.

    Args:
        data: a message.
        loads: understands the JSON in it, or raises ValueError.

    Raises:
        ProtocolError: it is no message, or only a part of one.
    """
    size = int.from_bytes(data[:SIZE_BYTES], "little")
    if len(data) < SIZE_BYTES + size:
        raise ProtocolError("a message", 0, f"{size} bytes", f"{len(data)}")
    blobs = _Blobs(data, SIZE_BYTES + size)
    try:
        found = _unpacked(loads(json_of(data)), blobs)
    except (ValueError, TypeError, RecursionError) as error:
        pass_on(error)
        raise ProtocolError("a message", SIZE_BYTES, "JSON", type(error).__name__) from None
    if blobs.at != len(data):
        raise ProtocolError("a message", blobs.at, "its end", "more bytes")
    return found


class _Blobs:
    """The bytes behind the JSON, taken in order."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self.at = data, at

    def take(self, size: int) -> bytes:
        """Return the next ones."""
        if isinstance(size, bool) or not 0 <= size <= len(self._data) - self.at:
            raise ValueError("a value goes beyond the end")
        self.at += size
        return self._data[self.at - size : self.at]


def _unpacked(value: Any, blobs: _Blobs) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, blobs) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, item),) = value.items()
        if name == BYTES:
            return blobs.take(item)
        if name == TEXT:
            return blobs.take(item).decode()
        if name == OBJECT:
            return {key: _unpacked(one, blobs) for key, one in item}
    return {name: _unpacked(item, blobs) for name, item in value.items()}
