"""The log over any stream of bytes: a pipe, a socket, a file.

Invariants:

* Pieces come out as they went in, in the same order; where bytes were lost or changed, or the
  stream ends before its end frame, an error says so, and no piece after it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvengine.errors import InvalidRequest, LogCompacted, ProtocolError
from kvengine.replication.network import codec
from kvengine.replication.network.codec import Kind
from kvengine.replication.network.framing import COUNT_MAX, Frame, FrameReader
from kvengine.replication.network.messages import Piece, Source
from kvengine.replication.piece_order import PieceOrder


def send(
    source: Source,
    write: Callable[[bytes], object],
    after: int,
    *,
    uuid: bytes = bytes(codec.UUID_BYTES),
    follow: bool = False,
) -> None:
    """Write the log of a source behind a version; with `follow`, until `write` raises.

    Args:
        source: whose log.
        write: takes all the bytes it is given.
        after: the version that the receiver knows.
        uuid: which store it is, 16 bytes; zeros: not said.
        follow: continue with new changes; pieces without changes are heartbeats.

    Raises:
        LogCompacted: nothing was written; the receiver must begin with 0.
    """
    if len(uuid) != codec.UUID_BYTES:
        raise InvalidRequest(f"a uuid must have {codec.UUID_BYTES} bytes, not {len(uuid)}")
    pieces = source.pieces(after, follow=follow)
    first = next(pieces, None)  # before the hello: it may raise
    write(codec.encode_hello(after, max(after, source.version), uuid))
    number, upto = 1, after
    while first is not None:
        for part in split(first):
            write(codec.encode_piece(number, part))
            number += 1
        upto = first.upto
        first = next(pieces, None)
    write(codec.encode_end(number, upto))


def split(piece: Piece) -> Iterator[Piece]:
    """Yield a piece in parts that are not too large for a frame."""
    after, start, size = piece.after, 0, 0
    for number, change in enumerate(piece.changes):
        if number - start == COUNT_MAX or size > codec.SPLIT_BYTES:
            upto = piece.changes[number - 1].version
            yield Piece(after, upto, piece.changes[start:number], False)
            after, start, size = upto, number, 0
        size += codec.CHANGE.size + len(change.key) + len(change.metadata) + len(change.value)
    yield Piece(after, piece.upto, piece.changes[start:], piece.whole)


class Receiver:
    """The far end of a stream, as a Source that can be read once.

    Thread-safety: for one thread.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._frames = FrameReader(read, codec.FORMAT)
        frame = self._frame()
        if frame.kind != Kind.HELLO:
            raise ProtocolError("a stream", 0, "a hello", frame.kind.name)
        after, self._version, uuid = codec.decode_hello(frame)
        self.uuid = uuid  # of the sender's store; zeros: it did not say
        self.after = after  # the stream begins behind this version

    @property
    def version(self) -> int:
        """The newest version of the sender, as far as it is known here."""
        return self._version

    def pieces(self, after: int, *, follow: bool = False) -> Iterator[Piece]:
        """Yield what the sender sends behind a version; see Source.

        Whether it follows was decided by the sender; without `follow` the first whole piece is
        the last one given.

        Raises:
            ProtocolError: bytes were lost or changed, or the stream was cut.
            InvalidRequest: the sender was asked for less.
            LogCompacted: it was asked for the whole, in which forgotten deletes are left out.
        """
        if after < self.after:
            raise InvalidRequest(f"the stream begins after version {self.after}, not {after}")
        if after > 0 == self.after:
            raise LogCompacted(after, self._version)
        return self._pieces(PieceOrder(after), follow)

    def _pieces(self, guard: PieceOrder, follow: bool) -> Iterator[Piece]:
        reached = self.after
        while True:
            begin, frame = self._frames.at, self._frame()
            if frame.kind == Kind.HELLO:
                raise ProtocolError("a frame", begin, "a piece", "a second hello")
            piece = codec.decode_piece(frame)
            if piece.after != reached:
                raise ProtocolError("a frame", begin, f"what follows {reached}", piece.after)
            if frame.kind == Kind.END:
                return
            reached = piece.upto
            self._version = max(self._version, reached)
            passed = guard.take(piece)
            if passed is not None:
                yield passed
                if passed.whole and not follow:
                    return

    def _frame(self) -> Frame:
        frame = self._frames.next()
        if frame is None:
            raise ProtocolError("a stream", self._frames.at, "another frame", "its end")
        return frame


def receive(read: Callable[[int], bytes]) -> Receiver:
    """Return the source at the far end of a stream, whose hello is read now.

    Args:
        read: as of a socket or a raw file: gives 1 to n bytes, b"" at the end.

    Raises:
        ProtocolError: it is not a stream of this kind.
    """
    return Receiver(read)
