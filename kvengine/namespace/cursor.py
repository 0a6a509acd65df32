"""Cursors: the position of a list, as text that a client passes back.

    1 byte     form, 1
    4 bytes    number of the namespace
    1 byte     1: in reverse
    8 bytes    XXH3 of the prefix and the delimiter
    8 bytes    XXH3 of everything else, so that damage shows
    rest       the last key that was looked at

All of it in base64 for URLs.

Invariants:

* A cursor refers to a key, not to a place in a file: it survives compaction, restarts and writes.
* A cursor that was made for another list is refused, not misread.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any, NamedTuple

from kvengine.engine.index.hash import xxh3_64
from kvengine.errors import InvalidRequest, InvalidType

INVALID = 'invalid "list keys" cursor'
FORM = 1
HEAD = struct.Struct(">BIB")
CHECKSUM = struct.Struct(">Q")
SIZE = HEAD.size + 2 * CHECKSUM.size


class ListQuery(NamedTuple):
    """What a cursor belongs to."""

    number: int  # of the namespace
    prefix: bytes
    delimiter: bytes
    reverse: bool


def encode(query: ListQuery, last: bytes) -> str:
    """Return the cursor of a list that continues after a key."""
    start = HEAD.pack(FORM, query.number, query.reverse) + _of(query)
    return _text(start + CHECKSUM.pack(xxh3_64(start + last)) + last)


def decode(query: ListQuery, cursor: Any) -> bytes:
    """Return the key after which a list continues.

    Raises:
        InvalidType: it is not a str.
        InvalidRequest: it is not a cursor, or belongs to another list; the error says which.
    """
    if not isinstance(cursor, str):
        raise InvalidType(
            f"{INVALID}: it must be a str that list() returned, not {type(cursor).__name__}"
        )
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("it is damaged") from None
    start, last = data[: SIZE - CHECKSUM.size], data[SIZE:]
    if len(data) < SIZE or data[0] != FORM or _text(data) != cursor:
        raise _invalid("it is damaged")
    if data[len(start) : SIZE] != CHECKSUM.pack(xxh3_64(start + last)):
        raise _invalid("it is damaged")
    _, number, reverse = HEAD.unpack_from(start)
    if number != query.number:
        raise _invalid("it belongs to another namespace")
    if start[HEAD.size :] != _of(query):
        raise _invalid("it belongs to another prefix or delimiter; repeat them with each page")
    if bool(reverse) != query.reverse:
        raise _invalid("it belongs to a list in the other direction")
    return last


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _of(query: ListQuery) -> bytes:
    size = len(query.prefix).to_bytes(4, "big")
    return CHECKSUM.pack(xxh3_64(size + query.prefix + query.delimiter))


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(f"{INVALID}: {why}")
