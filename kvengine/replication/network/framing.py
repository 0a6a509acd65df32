"""Frames: what a stream of bytes is cut into, so that damage shows; WIRE.md has every byte.

Invariants:

* A frame that is read was written, as the same number of its stream, or it is a ProtocolError that
  says at which byte.
* Sizes are compared with their limits before anything is allocated for them; memory is taken for
  what has come, not for what a header promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

import xxhash

from kvengine.engine.index.hash import xxh3_64
from kvengine.errors import ProtocolError

HEADER = Struct("<4sBBHIIQQQ")
CHECKSUM_BYTES = 8
COUNT_MAX = 1 << 16
READ_BYTES = 1 << 20
LARGE_BYTES = 1 << 10  # on average: such parts are copied once


class Format(NamedTuple):
    """What all frames of a protocol have in common."""

    magic: bytes  # 4 of them
    version: int
    kinds: Mapping[int, IntEnum]  # by their numbers
    flags: int  # the largest that is sent
    size_max: int  # bytes of a payload


class Frame(NamedTuple):
    """A frame that came."""

    kind: IntEnum
    flags: int
    items: int  # how many are in it
    payload: Payload


def encode(
    form: Format, number: int, kind: IntEnum, count: int, parts: Sequence[bytes], flags: int = 0
) -> bytes:
    """Return a frame.

    Args:
        form: of the protocol.
        number: of the frame in its stream, from 0.
        kind, count, flags: what the frame is.
        parts: of the payload.
    """
    size = sum(map(len, parts))
    if count > COUNT_MAX or size > form.size_max:
        found = f"{count} items, {size} bytes"
        raise ProtocolError("a frame to send", 0, "one within its limits", found)
    if size < len(parts) * LARGE_BYTES:
        parts = [b"".join(parts)]
        checksum = xxh3_64(parts[0])
    else:
        checksum = _checksum_of(parts)
    head = HEADER.pack(form.magic, kind, flags, form.version, count, size, number, checksum, 0)
    head = head[:-CHECKSUM_BYTES]
    return b"".join((head, xxh3_64(head).to_bytes(CHECKSUM_BYTES, "little"), *parts))


def _checksum_of(parts: Sequence[bytes]) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest()


class FrameReader:
    """Reads the frames of a stream.

    Args:
        read: as of a socket or a raw file: gives 1 to n bytes, b"" at the end.
        form: of the protocol.

    Thread-safety: for one thread.
    """

    def __init__(self, read: Callable[[int], bytes], form: Format) -> None:
        self._read, self._form = read, form
        self._number = 0
        self.at = 0  # bytes that were read

    def next(self) -> Frame | None:
        """Return the next frame; None: the stream ends between two of them.

        Raises:
            ProtocolError: bytes were lost or changed, or the stream was cut.
        """
        first = self._read(HEADER.size)
        if not first:
            return None
        begin = self.at
        kind, flags, count, size, checksum = self._head(self._exactly(HEADER.size, first), begin)
        data = self._exactly(size)
        found = xxh3_64(data)
        if found != checksum:
            at = begin + HEADER.size
            raise ProtocolError("a frame", at, f"{checksum:016x}", f"{found:016x}")
        self._number += 1
        return Frame(self._form.kinds[kind], flags, count, Payload(data, begin + HEADER.size))

    def _head(self, data: bytes, at: int) -> tuple[int, int, int, int, int]:
        """Return the kind, flags, count, size and checksum that a header has."""
        form = self._form
        magic, kind, flags, version, count, size, number, payload, checksum = HEADER.unpack(data)
        if magic != form.magic:
            raise ProtocolError("the beginning of a frame", at, form.magic, magic)
        found = xxh3_64(data[:-CHECKSUM_BYTES])
        if found != checksum:
            raise ProtocolError("the header of a frame", at, f"{checksum:016x}", f"{found:016x}")
        if version != form.version:
            raise ProtocolError("the format of a frame", at, form.version, version)
        if number != self._number:
            raise ProtocolError("the number of a frame", at, self._number, number)
        sane = kind in form.kinds and flags <= form.flags
        if not sane or count > COUNT_MAX or size > form.size_max:
            expected = "fields within their limits"
            raise ProtocolError("the header of a frame", at, expected, data.hex())
        return kind, flags, count, size, payload

    def _exactly(self, size: int, data: bytes = b"") -> bytes:
        """Return so many bytes, of which some have been read."""
        if not data and size:
            data = self._read(min(size, READ_BYTES))
        if len(data) < size:
            data = self._slowly(size, bytearray(data))
        self.at += size
        return data

    def _slowly(self, size: int, data: bytearray) -> bytes:
        while len(data) < size:
            got = self._read(min(size - len(data), READ_BYTES))
            if not got:
                missing = f"{size - len(data)} more bytes"
                raise ProtocolError("a stream", self.at + len(data), missing, "its end")
            data += got
        return bytes(data)


class Payload:
    """The bytes of a frame, taken one after the other.

    Args:
        data: the bytes.
        begin: where in the stream they are.
    """

    def __init__(self, data: bytes, begin: int) -> None:
        self._data, self._begin, self._at = data, begin, 0

    def fields(self, struct: Struct) -> tuple[Any, ...]:
        """Return the fields of a struct that comes next."""
        return struct.unpack(self.take(struct.size))

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        at, end = self._at, self._at + size
        if end > len(self._data):
            raise self._wrong(f"{size} bytes", "its end")
        self._at = end
        return self._data[at:end]

    def check(self, sane: bool) -> None:
        """Refuse fields that nobody sends."""
        if not sane:
            raise self._wrong("fields within their limits", "others")

    def end(self) -> None:
        """Refuse a payload of which something is left."""
        if self._at != len(self._data):
            raise self._wrong("its end", f"{len(self._data) - self._at} more bytes")

    def _wrong(self, expected: str, found: str) -> ProtocolError:
        return ProtocolError("a frame", self._begin + self._at, expected, found)
