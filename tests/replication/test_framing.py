"""Frames: what is read was written, in its place, or the error says where."""

from __future__ import annotations

import io
from enum import IntEnum
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import ProtocolError
from kvengine.engine.index.hash import xxh3_64
from kvengine.replication.network.framing import (
    CHECKSUM_BYTES,
    COUNT_MAX,
    HEADER,
    READ_BYTES,
    Format,
    FrameReader,
    Payload,
    encode,
)


class Kind(IntEnum):
    ONE = 1
    TWO = 2


FORM = Format(b"test", 7, {int(kind): kind for kind in Kind}, 3, 4 * READ_BYTES)
OTHER = FORM._replace(magic=b"tent")


def read_all(data: bytes, form: Format = FORM) -> list[tuple[IntEnum, int, int, bytes]]:
    reader = FrameReader(io.BytesIO(data).read, form)
    found: list[tuple[IntEnum, int, int, bytes]] = []
    while (frame := reader.next()) is not None:
        size = reader.at - sum(HEADER.size + len(one[3]) for one in found) - HEADER.size
        found.append((frame.kind, frame.flags, frame.items, frame.payload.take(size)))
        frame.payload.end()
    return found


frames = st.lists(
    st.tuples(
        st.sampled_from(Kind), st.integers(0, 3), st.integers(0, COUNT_MAX), st.binary(max_size=99)
    ),
    max_size=4,
)


def written(some: list[tuple[Kind, int, int, bytes]]) -> bytes:
    return b"".join(
        encode(FORM, number, kind, count, [data[:5], data[5:]], flags)
        for number, (kind, flags, count, data) in enumerate(some)
    )


@given(frames)
def test_what_comes_out_is_what_went_in(some: list[tuple[Kind, int, int, bytes]]) -> None:
    assert read_all(written(some)) == some


DATA = written([(Kind.ONE, 1, 2, b"payload"), (Kind.TWO, 0, 0, b""), (Kind.ONE, 0, 1, b"x")])
BETWEEN = (HEADER.size + 7, 2 * HEADER.size + 7)


@pytest.mark.parametrize("size", range(len(DATA)))
def test_a_cut_stream(size: int) -> None:
    if size in (0, *BETWEEN):
        assert len(read_all(DATA[:size])) == (0, *BETWEEN).index(size)
        return
    with pytest.raises(ProtocolError, match="its end") as caught:
        read_all(DATA[:size])
    assert caught.value.offset == size


@pytest.mark.parametrize("bit", range(8 * len(DATA)))
def test_a_flipped_bit(bit: int) -> None:
    damaged = bytearray(DATA)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError) as caught:
        read_all(bytes(damaged))
    begin = max(at for at in (0, *BETWEEN) if at <= bit // 8)
    assert begin <= caught.value.offset <= len(DATA)


def test_frames_in_another_order_or_of_another_protocol() -> None:
    first, second = DATA[: BETWEEN[0]], DATA[BETWEEN[0] : BETWEEN[1]]
    for data in (second, first + first, first + DATA[BETWEEN[1] :]):
        with pytest.raises(ProtocolError, match="number of a frame"):
            read_all(data)
    with pytest.raises(ProtocolError, match="beginning of a frame"):
        read_all(DATA, OTHER)
    with pytest.raises(ProtocolError, match="format of a frame"):
        read_all(DATA, FORM._replace(version=8))


def head(kind: int, flags: int, count: int, size: int) -> bytes:
    """Return a header whose checksum is right."""
    data = HEADER.pack(b"test", kind, flags, 7, count, size, 0, 0, 0)[:-CHECKSUM_BYTES]
    return data + xxh3_64(data).to_bytes(CHECKSUM_BYTES, "little")


@pytest.mark.parametrize(
    "data",
    [
        head(3, 0, 0, 0),
        head(1, 4, 0, 0),
        head(1, 0, COUNT_MAX + 1, 0),
        head(1, 0, 0, FORM.size_max + 1),
    ],
)
def test_a_header_beyond_the_limits_is_refused_before_anything_is_read(data: bytes) -> None:
    stream = io.BytesIO(data + bytes(99))
    with pytest.raises(ProtocolError, match="within their limits"):
        FrameReader(stream.read, FORM).next()
    assert stream.tell() == HEADER.size


def test_a_size_that_is_a_lie_takes_no_memory() -> None:
    asked, stream = [], io.BytesIO(head(1, 0, 1, FORM.size_max) + b"a few bytes")

    def read(size: int) -> bytes:
        asked.append(size)
        return stream.read(size)

    with pytest.raises(ProtocolError, match="its end"):
        FrameReader(read, FORM).next()
    assert max(asked) <= READ_BYTES


def test_what_is_too_large_is_not_sent() -> None:
    assert len(encode(FORM, 0, Kind.ONE, COUNT_MAX, [bytes(FORM.size_max)])) > FORM.size_max
    for count, size in ((COUNT_MAX + 1, 0), (0, FORM.size_max + 1)):
        with pytest.raises(ProtocolError, match="to send"):
            encode(FORM, 0, Kind.ONE, count, [bytes(size)])


def test_large_parts_and_small_ones_give_the_same_frame() -> None:
    data = bytes(range(256)) * 64
    small = encode(FORM, 0, Kind.ONE, 1, [data[at : at + 1] for at in range(len(data))])
    assert encode(FORM, 0, Kind.ONE, 1, [data[:9000], data[9000:]]) == small
    assert read_all(small) == [(Kind.ONE, 0, 1, data)]


def test_a_payload_says_where_it_is_wrong() -> None:
    payload = Payload(b"\x01\x00abc", 100)
    assert payload.fields(Struct("<H")) == (1,)
    assert payload.take(2) == b"ab"
    payload.check(True)
    for wrong in (lambda: payload.take(2), lambda: payload.check(False), payload.end):
        with pytest.raises(ProtocolError) as caught:
            wrong()
        assert caught.value.offset == 104
    assert payload.take(1) == b"c"
    payload.end()
