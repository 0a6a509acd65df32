"""Values and metadata: conversion from Python objects to bytes, and back.

Invariants:

* A value is complete and within its limit before anything is written.
* Metadata in the store is JSON in UTF-8, without spaces; no metadata is stored as no bytes.
"""

from __future__ import annotations

import io
import json
from typing import Any

from kvengine.errors import InvalidRequest, InvalidType, pass_on
from kvengine.namespace.limits import Limits, utf8

CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def to_json(what: str, value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        InvalidRequest: it can't be serialized as JSON.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} must be JSON: {error}") from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only escape
        return json.dumps(value, separators=(",", ":")).encode()


def encode_metadata(limits: Limits, metadata: Any) -> bytes:
    """Return metadata as it lies in the store; b"" for None.

    Raises:
        InvalidRequest: it can't be serialized as JSON.
        LimitExceeded: it is too long.
    """
    if metadata is None:
        return b""
    data = to_json("metadata", metadata)
    limits._check_metadata_size(len(data))
    return data


def decode_metadata(data: bytes) -> Any:
    """Return parsed metadata; None if there is none.

    Raises:
        InvalidRequest: it is not JSON, so a namespace did not write it.
    """
    if not data:
        return None
    try:
        return parse_json(data.decode())
    except (ValueError, RecursionError) as error:
        pass_on(error)
        raise InvalidRequest(f"metadata in the store is not JSON: {error}") from None


def encode_value(limits: Limits, value: Any, kind: str | None, size: int | None) -> Any:
    """Return a value as bytes or a buffer of bytes.

    Args:
        limits: what is too long.
        value: str, bytes-like, a binary stream; with kind "json" any JSON value.
        kind: None or "json".
        size: how many bytes a stream must have; None: as many as come.

    Raises:
        InvalidType: it is none of these.
        InvalidRequest: it has no form as bytes, or a stream ended early.
        LimitExceeded: it is too long.
    """
    if size is not None:
        _check_size(size)
    if kind == "json":
        data: Any = to_json("a value of type json", value)
    elif kind is not None:
        raise InvalidRequest(f"the type of a value to put is None or 'json', not {kind!r}")
    elif type(value) is bytes:
        data = value
    elif isinstance(value, str):
        data = utf8("a value", value)
    elif isinstance(value, (bytes, bytearray)):
        data = value
    elif hasattr(value, "read"):
        data = _read_all(limits, value, size)
    else:
        data = _buffer(value)
    limits._check_value_size(len(data))
    if size is not None and len(data) != size:
        raise InvalidRequest(f"the value has {len(data)} bytes, not {size}, as `size` says")
    return data


def _check_size(size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, int):
        raise InvalidType(f"size must be an int, not {type(size).__name__}")
    if size < 0:
        raise InvalidRequest(f"size must be 0 or more, not {size}")


def _buffer(value: Any) -> memoryview:
    try:
        return memoryview(value).cast("B")
    except TypeError:
        raise InvalidType(
            "put() accepts only str, bytes-like objects and binary streams as values, not "
            f"{type(value).__name__}; type='json' stores other things"
        ) from None


def _read_all(limits: Limits, stream: Any, size: int | None) -> bytearray:
    """Return the content of a stream; stop reading when it is too large."""
    data = bytearray()
    while True:
        piece = stream.read(CHUNK_BYTES)
        if piece is None:
            raise InvalidRequest(
                "the stream is non-blocking and has no data yet; put() can't wait for it"
            )
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise InvalidType(
                f"a stream must return bytes, not {type(piece).__name__}; "
                "open the file in binary mode"
            )
        if not len(piece):
            break
        data += piece
        limits._check_value_size(len(data))
        if size is not None and len(data) > size:
            break
    if size is not None and len(data) != size:
        came = f"ended after {len(data)}" if len(data) < size else "goes on after"
        raise InvalidRequest(f"the stream should have {size} bytes, and {came}")
    return data


def decode_json(key: str, data: Any) -> Any:
    """Return what a value says as JSON.

    Raises:
        InvalidRequest: it is not JSON.
    """
    text = bytes(data)
    try:
        return parse_json(text.removeprefix(BYTE_ORDER_MARK).decode())
    except (ValueError, RecursionError) as error:
        pass_on(error)
        raise InvalidRequest(f"the value of {key!r} is not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


parse_json = json.JSONDecoder(parse_constant=_refuse_constant).decode  # json.loads() takes NaN


class ValueStream(io.RawIOBase):
    """A value as a readable file, which copies only what is read.

    It stays readable and unchanged, whatever happens to the key and the database.
    """

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._view, self._at = view, 0

    def __len__(self) -> int:
        return len(self._view)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; return how many."""
        self._check_open()
        target = memoryview(buffer).cast("B")
        piece = self._view[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the value and return it."""
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}.get(whence)
        if base is None or base + offset < 0:
            raise InvalidRequest(f"can't seek to {offset} from {whence}")
        self._at = min(base + offset, len(self._view))
        return self._at

    def tell(self) -> int:
        """Return the present place."""
        self._check_open()
        return self._at

    def close(self) -> None:
        """Release the value's space in the store, once nothing else needs it."""
        super().close()
        self._view.release()

    def _check_open(self) -> None:
        if self.closed:
            raise InvalidRequest("the stream is closed")
