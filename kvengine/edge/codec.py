"""Wants, answers and news as bytes; WIRE.md has every byte.

Invariants:

* What decode() gives went into encode(), as frame `number` of its stream, or it is a ProtocolError.
* Sizes are compared with their limits before anything is allocated for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from kvengine.edge.messages import Answer, News, Notice, Want
from kvengine.engine.index.hash import xxh3_64
from kvengine.errors import ProtocolError
from kvengine.options import KEY_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX

FORMAT = 1
MAGIC = b"kvtm"
HEAD = Struct("<4sBBHIIQQQ")
WANT = Struct("<QQdH")
ANSWER = Struct("<QQddIHB")
NEWS = Struct("<QQddB")
NOTICE = Struct("<QddIHHB")
CHECKSUM_BYTES = 8
COUNT_MAX = 1 << 16
PAYLOAD_BYTES_MAX = (96 << 20) + VALUE_BYTES_MAX
HAS_VALUE, UNCHANGED, IS_PUT, GONE = 1, 2, 4, 8
VERSION_MAX = (1 << 64) - 1


class Kind(IntEnum):
    """What a frame has."""

    WANTS = 1
    ANSWERS = 2
    NEWS = 3


class Head(NamedTuple):
    """The header of a frame, compared with its checksum and its limits."""

    kind: Kind
    items: int
    size: int  # bytes of what follows
    checksum: int  # of what follows


def _frame(kind: Kind, number: int, count: int, parts: Sequence[bytes]) -> bytes:
    payload = b"".join(parts)
    if count > COUNT_MAX or len(payload) > PAYLOAD_BYTES_MAX:
        raise ProtocolError("a frame to send", 0, "within its limits", f"{len(payload)} bytes")
    head = HEAD.pack(MAGIC, kind, 0, FORMAT, count, len(payload), number, xxh3_64(payload), 0)
    head = head[:-CHECKSUM_BYTES]
    return head + xxh3_64(head).to_bytes(CHECKSUM_BYTES, "little") + payload


def encode_wants(wants: Sequence[Want], number: int = 0) -> bytes:
    """Return the frame of a question."""
    parts: list[bytes] = []
    for want in wants:
        parts += WANT.pack(want.min_version, want.known, want.within_s, len(want.key)), want.key
    return _frame(Kind.WANTS, number, len(wants), parts)


def encode_answers(answers: Sequence[Answer], number: int = 0) -> bytes:
    """Return the frame of some answers."""
    parts: list[bytes] = []
    for one in answers:
        value = one.value or b""
        flags = (0 if one.value is None else HAS_VALUE) | (UNCHANGED if one.unchanged else 0)
        ends = math.nan if one.expires_at is None else one.expires_at
        sizes = len(value), len(one.metadata), flags
        parts += ANSWER.pack(one.version, one.as_of, one.age, ends, *sizes), one.metadata, value
    return _frame(Kind.ANSWERS, number, len(answers), parts)


def encode_news(news: News, number: int = 0) -> bytes:
    """Return the frame of news."""
    gone = GONE if news.gone else 0
    parts = [NEWS.pack(news.after, news.upto, news.age, news.waited, gone)]
    for one in news.notices:
        value = one.value or b""
        flags = (0 if one.value is None else HAS_VALUE) | (IS_PUT if one.is_put else 0)
        ends = math.nan if one.expires_at is None else one.expires_at
        sizes = len(value), len(one.key), len(one.metadata), flags
        parts += NOTICE.pack(one.version, ends, one.ago, *sizes), one.key, one.metadata, value
    return _frame(Kind.NEWS, number, len(news.notices), parts)


def decode_head(data: bytes, number: int) -> Head:
    """Return the header of frame `number`.

    Raises:
        ProtocolError: it is not that header.
    """
    if len(data) != HEAD.size:
        raise ProtocolError("a header", 0, f"{HEAD.size} bytes", f"{len(data)}")
    magic, kind, zero, form, count, size, found, payload, checksum = HEAD.unpack(data)
    if magic != MAGIC:
        raise ProtocolError("the beginning of a frame", 0, MAGIC, magic)
    expected = xxh3_64(data[:-CHECKSUM_BYTES])
    if checksum != expected:
        raise ProtocolError("a header", 0, f"{expected:016x}", f"{checksum:016x}")
    if form != FORMAT or found != number:
        raise ProtocolError("a frame", 0, f"format {FORMAT}, {number}", f"{form}, {found}")
    if kind not in list(Kind) or zero or count > COUNT_MAX or size > PAYLOAD_BYTES_MAX:
        raise ProtocolError("a header", 0, "fields within their limits", data.hex())
    return Head(Kind(kind), count, size, payload)


def decode_payload(head: Head, data: bytes) -> list[Want] | list[Answer] | News:
    """Return what a frame has.

    Raises:
        ProtocolError: it is not what was sent.
    """
    if len(data) != head.size or xxh3_64(data) != head.checksum:
        raise ProtocolError("a frame", HEAD.size, f"{head.checksum:016x}", "other bytes")
    cursor = _Cursor(data)
    found: list[Want] | list[Answer] | News
    if head.kind == Kind.WANTS:
        found = [_want(cursor) for _ in range(head.items)]
    elif head.kind == Kind.ANSWERS:
        found = [_answer(cursor) for _ in range(head.items)]
    else:
        found = _news(cursor, head.items)
    if cursor.at != len(data):
        raise ProtocolError("a frame", cursor.at, "its end", "more bytes")
    return found


def frames(
    read: Callable[[int], bytes], kind: Kind, size_max: int = PAYLOAD_BYTES_MAX
) -> Iterator[list[Want] | list[Answer] | News]:
    """Yield what the frames of a stream have, until it ends between two of them.

    Args:
        read: gives 1 to n bytes, b"" at the end.
        kind: what is expected.
        size_max: of a frame; a larger one is refused before it is read.

    Raises:
        ProtocolError: bytes were lost or changed, or the stream was cut.
    """
    number = 0
    while first := read(HEAD.size):
        head = decode_head(_exactly(read, HEAD.size, first), number)
        if head.kind != kind or head.size > size_max:
            raise ProtocolError("a frame", 0, f"{kind.name}", f"{head.kind.name}, {head.size}")
        yield decode_payload(head, _exactly(read, head.size))
        number += 1


def _exactly(read: Callable[[int], bytes], size: int, first: bytes = b"") -> bytes:
    data = bytearray(first)
    while len(data) < size:
        got = read(min(size - len(data), 1 << 20))
        if not got:
            raise ProtocolError("a stream", len(data), f"{size} bytes", "its end")
        data += got
    return bytes(data)


class _Cursor:
    """A place in a payload."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def fields(self, struct: Struct) -> tuple[float, ...]:
        """Return the fields of a struct at this place."""
        return struct.unpack(self.take(struct.size))

    def take(self, size: float) -> bytes:
        """Return so many bytes."""
        end = self.at + int(size)
        if end > len(self._data):
            raise ProtocolError("a frame", self.at, f"{size} bytes", "its end")
        found = self._data[self.at : end]
        self.at = end
        return found

    def check(self, sane: bool) -> None:
        """Refuse fields that nobody sends."""
        if not sane:
            raise ProtocolError("a frame", self.at, "fields within their limits", "others")


def _want(cursor: _Cursor) -> Want:
    min_version, known, within_s, size = cursor.fields(WANT)
    cursor.check(1 <= size <= KEY_BYTES_MAX and within_s >= 0)
    return Want(cursor.take(size), int(min_version), int(known), within_s)


def _answer(cursor: _Cursor) -> Answer:
    version, as_of, age, ends, size, metadata_size, flags = cursor.fields(ANSWER)
    cursor.check(_within(age, ends, size, metadata_size) and flags in (0, HAS_VALUE, UNCHANGED))
    metadata, value = cursor.take(metadata_size), cursor.take(size)
    return Answer(
        int(version),
        int(as_of),
        age,
        value if flags == HAS_VALUE else None,
        metadata,
        None if math.isnan(ends) else ends,
        flags == UNCHANGED,
    )


def _news(cursor: _Cursor, count: int) -> News:
    after, upto, age, waited, flags = cursor.fields(NEWS)
    cursor.check(age >= 0 and math.isfinite(waited) and flags in (0, GONE))
    notices = tuple(_notice(cursor) for _ in range(count))
    return News(int(after), int(upto), age, notices, waited, flags == GONE)


def _notice(cursor: _Cursor) -> Notice:
    version, ends, ago, size, key_size, metadata_size, flags = cursor.fields(NOTICE)
    cursor.check(
        _within(ago, ends, size, metadata_size)
        and 1 <= key_size <= KEY_BYTES_MAX
        and flags in (0, IS_PUT, IS_PUT | HAS_VALUE)
    )
    key, metadata, value = cursor.take(key_size), cursor.take(metadata_size), cursor.take(size)
    return Notice(
        int(version),
        key,
        bool(int(flags) & IS_PUT),
        value if int(flags) & HAS_VALUE else None,
        metadata,
        None if math.isnan(ends) else ends,
        ago,
    )


def _within(age: float, ends: float, size: float, metadata_size: float) -> bool:
    return (
        0 <= age < math.inf
        and not math.isinf(ends)
        and size <= VALUE_BYTES_MAX
        and metadata_size <= METADATA_BYTES_MAX
    )
