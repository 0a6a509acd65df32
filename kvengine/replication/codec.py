"""Pieces of the log as bytes: frames; WIRE.md has every byte.

Invariants:

* What comes out of decode_frame() went into encode_frame(), at the same place of the stream, or
  it is a ProtocolError that says where.
* Sizes are compared with their limits before anything is allocated for them.
"""

from __future__ import annotations

import math
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from kvengine.engine.index.hash import xxh3_64
from kvengine.entry import Change
from kvengine.errors import InvalidRequest, ProtocolError
from kvengine.options import KEY_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX, VERSION_LIMIT
from kvengine.replication.messages import Piece

FORMAT = 1
MAGIC = b"kvwp"
HEADER = Struct("<4sBBHIIQQQQ")
CHANGE = Struct("<QQdIHHB7s")
CHECKSUM_BYTES = 8
ZEROS = bytes(7)
WHOLE = 1
CHANGES_MAX = 1 << 16
CHANGE_BYTES_MAX = CHANGE.size + KEY_BYTES_MAX + METADATA_BYTES_MAX + VALUE_BYTES_MAX
PAYLOAD_BYTES_MAX = (8 << 20) + CHANGE_BYTES_MAX
SEED_STEP = 1 << 20  # more than the changes of a frame: no two in a stream share a seed
KINDS = {"put": 1, "delete": 2}
UUID_BYTES = 16


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    PIECE = 2
    END = 3


class Head(NamedTuple):
    """The header of a frame, compared with its checksum and its limits."""

    kind: Kind
    whole: bool
    changes: int
    size: int  # bytes of what follows
    after: int
    upto: int


def encode_frame(number: int, piece: Piece) -> bytes:
    """Return the frame of a piece; `number` counts the frames of a stream."""
    parts = [b""]
    for index, change in enumerate(piece.changes):
        parts.append(_encode_change(change, number * SEED_STEP + index))
    size = sum(map(len, parts))
    if len(piece.changes) > CHANGES_MAX or size > PAYLOAD_BYTES_MAX:
        raise InvalidRequest(f"a piece of {len(piece.changes)} changes, {size} bytes is too large")
    parts[0] = encode_head(
        number, Kind.PIECE, piece.whole, len(piece.changes), size, piece.after, piece.upto
    )
    return b"".join(parts)


def encode_head(
    number: int, kind: Kind, whole: bool, count: int, size: int, after: int, upto: int
) -> bytes:
    """Return the header of a frame."""
    flags = WHOLE if whole else 0
    head = HEADER.pack(MAGIC, kind, flags, FORMAT, count, size, number, after, upto, 0)
    return head[:-CHECKSUM_BYTES] + xxh3_64(head[:-CHECKSUM_BYTES]).to_bytes(8, "little")


def _encode_change(change: Change, seed: int) -> bytes:
    expires_at = 0.0 if change.expires_at is None else change.expires_at
    sizes = len(change.value), len(change.key), len(change.metadata)
    body = b"".join(
        (
            CHANGE.pack(0, change.version, expires_at, *sizes, KINDS[change.kind], ZEROS)[8:],
            change.key,
            change.metadata,
            change.value,
        )
    )
    return xxh3_64(body, seed % (1 << 64)).to_bytes(8, "little") + body


def decode_head(data: bytes, number: int, at: int) -> Head:
    """Return the header of frame `number`, which begins at byte `at` of the stream.

    Raises:
        ProtocolError: it is not that header.
    """
    magic, kind, flags, form, count, size, found, after, upto, checksum = HEADER.unpack(data)
    if magic != MAGIC:
        raise ProtocolError("the beginning of a frame", at, MAGIC, magic)
    expected = xxh3_64(data[:-CHECKSUM_BYTES])
    if checksum != expected:
        raise ProtocolError("the header of a frame", at, f"{expected:016x}", f"{checksum:016x}")
    if form != FORMAT:
        raise ProtocolError("the format of a frame", at, FORMAT, form)
    if found != number:
        raise ProtocolError("the number of a frame", at, number, found)
    sane = (
        kind in (Kind.HELLO, Kind.PIECE, Kind.END)
        and flags in (0, WHOLE)
        and count <= CHANGES_MAX
        and count * CHANGE.size <= size <= PAYLOAD_BYTES_MAX
        and after <= upto < VERSION_LIMIT
        and (kind != Kind.HELLO or size == UUID_BYTES + CHECKSUM_BYTES)
        and (kind != Kind.END or size == 0)
    )
    if not sane:
        raise ProtocolError("the header of a frame", at, "fields within their limits", data.hex())
    return Head(Kind(kind), flags == WHOLE, count, size, after, upto)


def decode_changes(head: Head, data: bytes, number: int, at: int) -> tuple[Change, ...]:
    """Return the changes of frame `number`; `data` begins at byte `at` of the stream.

    Raises:
        ProtocolError: they are not what was sent.
    """
    changes, offset, newest = [], 0, head.after
    for index in range(head.changes):
        if offset + CHANGE.size > len(data):
            raise ProtocolError("a change", at + offset, f"change {index}", "the end of its frame")
        fields = CHANGE.unpack_from(data, offset)
        checksum, version, expires_at, value_size, key_size, metadata_size, kind, zeros = fields
        key_at = offset + CHANGE.size
        metadata_at = key_at + key_size
        value_at = metadata_at + metadata_size
        end = value_at + value_size
        body = data[offset + CHECKSUM_BYTES : end]
        expected = xxh3_64(body, (number * SEED_STEP + index) % (1 << 64))
        if end > len(data) or checksum != expected:
            raise ProtocolError("a change", at + offset, f"{checksum:016x}", f"{expected:016x}")
        sane = (
            newest < version <= head.upto
            and 1 <= key_size <= KEY_BYTES_MAX
            and metadata_size <= METADATA_BYTES_MAX
            and value_size <= VALUE_BYTES_MAX
            and kind in (1, 2)
            and zeros == ZEROS
            and math.isfinite(expires_at)
        )
        if not sane:
            raise ProtocolError("a change", at + offset, "fields within their limits", fields)
        newest = version
        changes.append(
            Change(
                version,
                "put" if kind == 1 else "delete",
                data[key_at:metadata_at],
                data[value_at:end],
                data[metadata_at:value_at],
                expires_at or None,
            )
        )
        offset = end
    if offset != len(data):
        raise ProtocolError("a frame", at + offset, "its end", f"{len(data) - offset} more bytes")
    return tuple(changes)
