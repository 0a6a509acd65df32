"""The log over a stream: what comes out is what went in, or an error that says where."""

import io
import math
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import InvalidRequest, LogCompacted, ProtocolError, Store
from kvengine.entry import Change
from kvengine.replication.network import codec, stream
from kvengine.replication.network.codec import Kind
from kvengine.replication.network.framing import COUNT_MAX, HEADER, encode
from kvengine.replication.network.messages import Piece

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "kvengine/replication/WIRE.md").read_text()


class Listed:
    """A source that gives pieces from a list."""

    def __init__(self, pieces):
        self._pieces, self.version = pieces, pieces[-1].upto if pieces else 0

    def pieces(self, after, *, follow=False):
        return iter(self._pieces)


def sent(pieces, after=0, **options):
    out = io.BytesIO()
    stream.send(Listed(pieces), out.write, after, **options)
    return out.getvalue()


def received(data, after=0):
    return list(stream.receive(io.BytesIO(data).read).pieces(after, follow=True))


def change(version, value=b"value"):
    return Change(version, "put", b"key %d" % version, value, b"m", 4e9)


PIECES = [
    Piece(0, 3, (change(1), Change(3, "delete", b"gone", b"", b"", None)), False),
    Piece(3, 5, (change(5, b""),), True),
    Piece(5, 5, (), True),
]
DATA = sent(PIECES, uuid=b"u" * 16)


def test_what_comes_out_is_what_went_in():
    far = stream.receive(io.BytesIO(DATA).read)
    assert (far.uuid, far.after, far.version) == (b"u" * 16, 0, 5)
    assert list(far.pieces(0, follow=True)) == PIECES


def test_without_follow_it_ends_with_what_is_whole():
    assert list(stream.receive(io.BytesIO(DATA).read).pieces(0)) == PIECES[:2]


def test_cut_at_every_byte():
    for size in range(len(DATA)):
        found = []
        with pytest.raises(ProtocolError) as caught:
            found.extend(stream.receive(io.BytesIO(DATA[:size]).read).pieces(0, follow=True))
        assert caught.value.offset == size


def test_every_flipped_bit_is_seen():
    for bit in range(8 * len(DATA)):
        damaged = bytearray(DATA)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            received(bytes(damaged))


@given(st.data())
def test_bytes_that_are_swapped_repeated_or_left_out_never_give_another_answer(data):
    ends = sorted(data.draw(st.lists(st.integers(0, len(DATA)), min_size=3, max_size=3)))
    start, middle, end = ends
    one, two = DATA[start:middle], DATA[middle:end]
    shape = data.draw(st.sampled_from([two + one, one, two, one + one + two, one + two + two]))
    mangled = DATA[:start] + shape + DATA[end:]
    found = []
    try:
        far = stream.receive(io.BytesIO(mangled).read)
        found.extend(far.pieces(0, follow=True))
    except ProtocolError:
        assert found == PIECES[: len(found)]
    else:
        assert found == PIECES


changes = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete"]),
        st.binary(min_size=1, max_size=1024),
        st.binary(max_size=5000),
        st.binary(max_size=1024),
        st.none() | st.floats(1, 1e11),
    )
)


@given(changes, st.integers(0, 1 << 40))
def test_any_changes(rows, after):
    made = tuple(Change(after + 1 + n, *row) for n, row in enumerate(rows))
    piece = Piece(after, after + len(rows) + 3, made, True)
    far = stream.receive(io.BytesIO(sent([piece], after)).read)
    assert list(far.pieces(after)) == [piece]


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    with pytest.raises(ProtocolError):
        received(data)


@pytest.mark.parametrize(
    "frame",
    [
        codec.encode_hello(5, 5, b"u" * 16),
        encode(codec.FORMAT, 1, Kind.END, 1, (codec.RANGE.pack(5, 5),)),
        encode(codec.FORMAT, 1, Kind.PIECE, 0, (codec.RANGE.pack(6, 5),)),
        encode(codec.FORMAT, 1, Kind.PIECE, 0, (codec.RANGE.pack(5, 1 << 60),)),
        encode(codec.FORMAT, 1, Kind.PIECE, 0, (codec.RANGE.pack(4, 5),)),
        encode(codec.FORMAT, 1, Kind.PIECE, 0, (codec.RANGE.pack(5, 5), b"x")),
        encode(codec.FORMAT, 1, Kind.PIECE, 1, (codec.RANGE.pack(5, 5),)),
        codec.encode_piece(1, Piece(5, 6, (change(7),), True)),
        codec.encode_piece(1, Piece(5, 7, (change(7), change(6)), True)),
        codec.encode_piece(1, Piece(5, 7, (change(7)._replace(key=b""),), True)),
        codec.encode_piece(1, Piece(5, 7, (change(7)._replace(expires_at=math.inf),), True)),
        encode(codec.FORMAT, 1, Kind.PIECE, 1, (codec.RANGE.pack(5, 7),
               codec.CHANGE.pack(7, 0.0, 0, 1, 0, 3), b"k")),
        encode(codec.FORMAT, 1, Kind.PIECE, 1, (codec.RANGE.pack(5, 7),
               codec.CHANGE.pack(7, 0.0, 9, 1, 0, 1), b"k")),
    ],
)  # fmt: skip
def test_whole_frames_that_nobody_sends(frame):
    with pytest.raises(ProtocolError):
        received(codec.encode_hello(5, 5, b"u" * 16) + frame, 5)


def test_a_large_piece_is_split_and_whole_only_at_its_end():
    large = Piece(0, 9, tuple(change(n, bytes(5 << 20)) for n in range(1, 5)), True)
    parts = list(stream.split(large))
    assert [part.whole for part in parts] == [False, True]
    assert sum((part.changes for part in parts), ()) == large.changes
    assert [(part.after, part.upto) for part in parts] == [(0, 2), (2, 9)]


def test_going_on_behind_a_version():
    assert received(sent(PIECES[1:], 3), 4) == [PIECES[1]._replace(after=4), PIECES[2]]
    with pytest.raises(InvalidRequest, match="after version 3"):
        received(sent(PIECES[1:], 3), 2)
    with pytest.raises(LogCompacted):  # forgotten deletes are left out for who begins with nothing
        received(DATA, 3)


SENDER = """
import socket, sys
from kvengine import Store
from kvengine.replication.network import stream
from kvengine.replication.local_source import LocalSource
store = Store(sys.argv[1], read_only=True)
line = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
source = LocalSource(store, heartbeat_s=0.05)
try:
    stream.send(source, line.sendall, int(sys.argv[3]), uuid=source.uuid, follow=True)
except OSError:
    pass
"""


def test_over_a_socket_from_another_process_with_a_break(tmp_path):
    with (
        Store(tmp_path / "s", durability="os") as store,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        store.update({b"%d" % n: b"value" for n in range(5000)})
        position, found, beats = 0, [], 0
        for turn in range(3):
            arguments = [tmp_path / "s", server.getsockname()[1], position]
            process = subprocess.Popen(
                [sys.executable, "-c", SENDER, *map(str, arguments)], cwd=ROOT
            )
            line, _ = server.accept()
            far = stream.receive(line.recv)
            assert far.uuid == store._parts.manifest.uuid
            store.put(b"turn %d" % turn, b"x")
            for piece in far.pieces(position, follow=True):
                assert piece.after == position
                found += piece.changes
                position = piece.upto
                beats += not piece.changes
                if position == store.version and beats > turn:
                    break
            line.close()
            process.terminate()
            process.wait(30)
        assert found == list(store.tail())
        assert position == store.version


def test_the_page_has_the_structs_of_the_code():
    tables, heading = {}, ""
    for line in PAGE.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        row = re.match(r"\| (\d+) \| (\d+) \| (\w+) \|", line)
        if row:
            tables.setdefault(heading, []).append((int(row[1]), int(row[2])))
    shapes = {"Frame header": HEADER, "Range": codec.RANGE, "Change": codec.CHANGE}
    for heading, shape in shapes.items():
        parts = re.findall(r"\d*s|[BHIQd]", shape.format)
        sizes = [struct.calcsize("<" + part) for part in parts]
        assert [size for _, size in tables[heading]] == sizes
        assert [at for at, _ in tables[heading]] == [sum(sizes[:n]) for n in range(len(sizes))]
    assert f"{codec.FORMAT.size_max:,}" in PAGE
    assert f"{COUNT_MAX:,}" in PAGE
