"""Requests, answers and changes as bytes; WIRE.md has every byte.

Invariants:

* frames() yields only what was encoded; anything else is a ProtocolError with the offset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from struct import Struct

from kvengine.edge.messages import Answer, ChangeBatch, ChangeEvent, KeyRequest
from kvengine.errors import ProtocolError
from kvengine.options import KEY_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX
from kvengine.replication.network.framing import Format, FrameReader, Payload, encode

REQUEST = Struct("<QQdH")
ANSWER = Struct("<QQddIHB")
BATCH = Struct("<QQddB")
EVENT = Struct("<QddIHHB")
HAS_VALUE, UNCHANGED, IS_PUT, GONE = 1, 2, 4, 8


class Kind(IntEnum):
    """The kind of items in a frame."""

    REQUESTS = 1
    ANSWERS = 2
    CHANGES = 3


FORMAT = Format(b"kvtm", 1, {int(kind): kind for kind in Kind}, 0, (96 << 20) + VALUE_BYTES_MAX)


def encode_requests(requests: Sequence[KeyRequest], number: int = 0) -> bytes:
    """Return the frame of a request."""
    parts: list[bytes] = []
    for request in requests:
        parts += (
            REQUEST.pack(request.min_version, request.known, request.max_age_s, len(request.key)),
            request.key,
        )
    return encode(FORMAT, number, Kind.REQUESTS, len(requests), parts)


def encode_answers(answers: Sequence[Answer], number: int = 0) -> bytes:
    """Return the frame of some answers."""
    parts: list[bytes] = []
    for one in answers:
        value = one.value or b""
        flags = (0 if one.value is None else HAS_VALUE) | (UNCHANGED if one.unchanged else 0)
        ends = math.nan if one.expires_at is None else one.expires_at
        sizes = len(value), len(one.metadata), flags
        parts += ANSWER.pack(one.version, one.as_of, one.age, ends, *sizes), one.metadata, value
    return encode(FORMAT, number, Kind.ANSWERS, len(answers), parts)


def encode_changes(changes: ChangeBatch, number: int = 0) -> bytes:
    """Return the frame of changes."""
    gone = GONE if changes.gone else 0
    parts = [BATCH.pack(changes.after, changes.upto, changes.age, changes.waited, gone)]
    for one in changes.events:
        value = one.value or b""
        flags = (0 if one.value is None else HAS_VALUE) | (IS_PUT if one.is_put else 0)
        ends = math.nan if one.expires_at is None else one.expires_at
        sizes = len(value), len(one.key), len(one.metadata), flags
        parts += EVENT.pack(one.version, ends, one.ago, *sizes), one.key, one.metadata, value
    return encode(FORMAT, number, Kind.CHANGES, len(changes.events), parts)


def frames(
    read: Callable[[int], bytes], kind: Kind
) -> Iterator[list[KeyRequest] | list[Answer] | ChangeBatch]:
    """Yield the content of each frame of a stream.

    Args:
        read: gives 1 to n bytes, b"" at the end.
        kind: what is expected.

    Raises:
        ProtocolError: bytes were lost or changed, or the stream was cut.
    """
    reader = FrameReader(read, FORMAT)
    while (frame := reader.next()) is not None:
        if frame.kind != kind:
            raise ProtocolError("a frame", reader.at, kind.name, frame.kind.name)
        payload = frame.payload
        found: list[KeyRequest] | list[Answer] | ChangeBatch
        if kind == Kind.CHANGES:
            found = _changes(payload, frame.items)
        elif kind == Kind.REQUESTS:
            found = [_request(payload) for _ in range(frame.items)]
        else:
            found = [_answer(payload) for _ in range(frame.items)]
        payload.end()
        yield found


def _request(payload: Payload) -> KeyRequest:
    min_version, known, max_age_s, size = payload.fields(REQUEST)
    payload.check(1 <= size <= KEY_BYTES_MAX and max_age_s >= 0)
    return KeyRequest(payload.take(size), min_version, known, max_age_s)


def _answer(payload: Payload) -> Answer:
    version, as_of, age, ends, size, metadata_size, flags = payload.fields(ANSWER)
    payload.check(_within(age, ends, size, metadata_size) and flags in (0, HAS_VALUE, UNCHANGED))
    metadata, value = payload.take(metadata_size), payload.take(size)
    return Answer(
        version,
        as_of,
        age,
        value if flags == HAS_VALUE else None,
        metadata,
        None if math.isnan(ends) else ends,
        flags == UNCHANGED,
    )


def _changes(payload: Payload, count: int) -> ChangeBatch:
    after, upto, age, waited, flags = payload.fields(BATCH)
    payload.check(age >= 0 and math.isfinite(waited) and flags in (0, GONE))
    events = tuple(_event(payload) for _ in range(count))
    return ChangeBatch(after, upto, age, events, waited, flags == GONE)


def _event(payload: Payload) -> ChangeEvent:
    version, ends, ago, size, key_size, metadata_size, flags = payload.fields(EVENT)
    payload.check(
        _within(ago, ends, size, metadata_size)
        and 1 <= key_size <= KEY_BYTES_MAX
        and flags in (0, IS_PUT, IS_PUT | HAS_VALUE)
    )
    key, metadata, value = payload.take(key_size), payload.take(metadata_size), payload.take(size)
    return ChangeEvent(
        version,
        key,
        bool(flags & IS_PUT),
        value if flags & HAS_VALUE else None,
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
