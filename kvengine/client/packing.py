"""Arguments and results of calls as bytes: MessagePack, with three extension types.

Invariants:

* unpack(pack(x)) is x, with lists for tuples and text for decimals; other types than those of JSON
  and bytes are refused by pack().
* Bytes that are no such message are a ProtocolError.
* A long message is read in parts: other threads run between two of them.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kvengine.client.libraries import needed
from kvengine.errors import InvalidType, ProtocolError, pass_on

if TYPE_CHECKING:
    from msgspec.msgpack import Ext

PIECE_BYTES = 64 << 10
ARRAYS = frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})  # as they begin
MAPS = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})
# What MessagePack has no type for: text with lone surrogates, as UTF-8 that has them; an integer
# beyond 64 bits, as digits; an object with such names, as a message with a list of pairs.
TEXT, INTEGER, OBJECT = 1, 2, 3
SIMPLE: frozenset[type] = frozenset({type(None), bool, float, str, bytes})


def pack(value: Any) -> bytes:
    """Return a message.

    Raises:
        InvalidType: something in it can't be sent.
    """
    encode = needed("msgspec.msgpack").encode
    try:
        try:
            return bytes(encode(_plain(value, SIMPLE)))
        except UnicodeEncodeError:
            return bytes(encode(_plain(value, SIMPLE - {str})))
    except (ValueError, RecursionError) as error:
        pass_on(error)
        raise InvalidType(f"cannot serialize an argument: {error}") from None


def _plain(value: Any, simple: frozenset[type]) -> Any:
    """Return a value as types that MessagePack has; those in `simple` stay as they are."""
    if type(value) in simple:
        return value
    if isinstance(value, (list, tuple)):
        found = []
        for item in value:  # a comprehension has a frame, and metadata may be 512 levels deep
            found.append(item if type(item) in simple else _plain(item, simple))  # noqa: PERF401
        return found
    if isinstance(value, dict):
        return _object(value, simple)
    if isinstance(value, int):
        number = int(value)
        return number if -(1 << 63) <= number < 1 << 64 else _extension(INTEGER, str(number))
    if isinstance(value, str):
        try:
            return value.encode().decode()
        except UnicodeEncodeError:
            return _extension(TEXT, value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value), simple)
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "read"):
        return _plain(value.read(), simple)
    raise InvalidType(f"cannot serialize a value of type {type(value).__name__}")


def _object(value: dict[Any, Any], simple: frozenset[type]) -> Any:
    if str in simple and all(type(name) is str for name in value):
        return {name: _plain(item, simple) for name, item in value.items()}
    for name in value:
        if not isinstance(name, (str, int, float, type(None))):
            raise InvalidType(f"cannot serialize a name of type {type(name).__name__}")
    pairs = [(_plain(name, simple), _plain(item, simple)) for name, item in value.items()]
    msgpack = needed("msgspec.msgpack")
    if any(isinstance(name, msgpack.Ext) for name, _ in pairs):
        return msgpack.Ext(OBJECT, msgpack.encode(pairs))
    return dict(pairs)


def _extension(code: int, text: str) -> Ext:
    made: Ext = needed("msgspec.msgpack").Ext(code, text.encode("utf-8", "surrogatepass"))
    return made


def unpack(data: bytes) -> Any:
    """Return what was packed.

    Raises:
        ProtocolError: it is not a complete message.
    """
    try:
        return _unpacked(data)
    except (ValueError, TypeError, RecursionError) as error:
        pass_on(error)
        is_known = isinstance(error, needed("msgspec").DecodeError)
        found = str(error).partition(" (")[0] if is_known else type(error).__name__
        raise ProtocolError("a message", 0, "MessagePack", found) from None


def _unpacked(data: Any) -> Any:
    if len(data) > PIECE_BYTES:
        if data[0] in ARRAYS:
            return [_unpacked(memoryview(item)) for item in _decoder("list").decode(data)]
        if data[0] in MAPS:
            items = _decoder("dict").decode(data).items()
            return {name: _unpacked(memoryview(item)) for name, item in items}
    return _decoder("all").decode(data)


@functools.cache
def _decoder(what: str) -> Any:
    """Return what decodes: all of a message, or an array or a map whose items stay bytes."""
    needed("msgspec")
    from msgspec import Raw, msgpack  # noqa: PLC0415 - only connections need it

    kind: Any = {"all": Any, "list": list[Raw], "dict": dict[Any, Raw]}[what]
    return msgpack.Decoder(kind, ext_hook=_extended)


def _extended(code: int, data: memoryview) -> Any:
    if code == TEXT:
        return str(data, "utf-8", "surrogatepass")
    if code == INTEGER:
        return int(str(data, "ascii"))
    if code == OBJECT:
        return dict(_unpacked(data))
    raise ValueError(f"there is no extension type {code}")
