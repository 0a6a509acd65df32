"""Pieces of the log as frames; WIRE.md has every byte.

Invariants:

* What is decoded was encoded, or it is a ProtocolError that says where.
"""

from __future__ import annotations

import math
from enum import IntEnum
from struct import Struct
from typing import Literal

from kvengine.entry import Change
from kvengine.options import KEY_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX, VERSION_LIMIT
from kvengine.replication.network.framing import Format, Frame, Payload, encode
from kvengine.replication.network.messages import Piece

UUID_BYTES = 16
RANGE = Struct("<QQ")
CHANGE = Struct("<QdIHHB")
CHANGE_BYTES_MAX = CHANGE.size + KEY_BYTES_MAX + METADATA_BYTES_MAX + VALUE_BYTES_MAX
SPLIT_BYTES = 8 << 20
WHOLE = 1
KINDS: dict[str, int] = {"put": 1, "delete": 2}
NAMES: dict[int, Literal["put", "delete"]] = {1: "put", 2: "delete"}


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    PIECE = 2
    END = 3


FORMAT = Format(
    b"kvwp",
    2,
    {int(kind): kind for kind in Kind},
    WHOLE,
    RANGE.size + SPLIT_BYTES + CHANGE_BYTES_MAX,
)


def encode_hello(after: int, upto: int, uuid: bytes) -> bytes:
    """Return the first frame of a stream."""
    return encode(FORMAT, 0, Kind.HELLO, 0, (RANGE.pack(after, upto), uuid))


def encode_end(number: int, upto: int) -> bytes:
    """Return the last frame of a stream."""
    return encode(FORMAT, number, Kind.END, 0, (RANGE.pack(upto, upto),))


def encode_piece(number: int, piece: Piece) -> bytes:
    """Return the frame of a piece; `number` counts the frames of a stream."""
    parts = [RANGE.pack(piece.after, piece.upto)]
    for change in piece.changes:
        sizes = len(change.value), len(change.key), len(change.metadata)
        ends = 0.0 if change.expires_at is None else change.expires_at
        parts += (
            CHANGE.pack(change.version, ends, *sizes, KINDS[change.kind]),
            change.key,
            change.metadata,
            change.value,
        )
    flags = WHOLE if piece.whole else 0
    return encode(FORMAT, number, Kind.PIECE, len(piece.changes), parts, flags)


def decode_hello(frame: Frame) -> tuple[int, int, bytes]:
    """Return which version a stream begins behind, the newest one, and the uuid of the store.

    Raises:
        ProtocolError: it is no hello.
    """
    after, upto = _range(frame.payload)
    frame.payload.check(frame.kind == Kind.HELLO and frame.items == 0)
    uuid = frame.payload.take(UUID_BYTES)
    frame.payload.end()
    return after, upto, uuid


def decode_piece(frame: Frame) -> Piece:
    """Return what is in a frame, which may be the last one, with nothing in it.

    Raises:
        ProtocolError: it is no piece.
    """
    payload = frame.payload
    after, upto = _range(payload)
    payload.check(frame.kind == Kind.PIECE or (frame.kind == Kind.END and not frame.items))
    changes, newest = [], after
    for _ in range(frame.items):
        version, ends, value_size, key_size, metadata_size, kind = payload.fields(CHANGE)
        payload.check(
            newest < version <= upto
            and 1 <= key_size <= KEY_BYTES_MAX
            and metadata_size <= METADATA_BYTES_MAX
            and value_size <= VALUE_BYTES_MAX
            and kind in NAMES
            and math.isfinite(ends)
        )
        newest = version
        key, metadata = payload.take(key_size), payload.take(metadata_size)
        value = payload.take(value_size)
        changes.append(Change(version, NAMES[kind], key, value, metadata, ends or None))
    payload.end()
    return Piece(after, upto, tuple(changes), frame.flags == WHOLE)


def _range(payload: Payload) -> tuple[int, int]:
    after, upto = payload.fields(RANGE)
    payload.check(after <= upto < VERSION_LIMIT)
    return after, upto
