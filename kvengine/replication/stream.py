"""The log over any stream of bytes: a pipe, a socket, a file.

Invariants:

* Pieces come out as they went in, in the same order; where bytes were lost or changed, or the
  stream ends before its end frame, an error says so, and no piece after it is given.
* Memory is taken for what has come, not for what a header promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvengine.engine.index.hash import xxh3_64
from kvengine.errors import InvalidRequest, LogCompacted, ProtocolError
from kvengine.replication import codec
from kvengine.replication.codec import Head, Kind
from kvengine.replication.messages import Piece, Source
from kvengine.replication.order_guard import OrderGuard

READ_BYTES = 1 << 20
SPLIT_BYTES = 8 << 20


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
        follow: go on with what comes; pieces without changes are heartbeats.

    Raises:
        LogCompacted: nothing was written; the receiver must begin with 0.
    """
    if len(uuid) != codec.UUID_BYTES:
        raise InvalidRequest(f"a uuid must have {codec.UUID_BYTES} bytes, not {len(uuid)}")
    pieces = source.pieces(after, follow=follow)
    first = next(pieces, None)  # before the hello: it may raise
    number = 0
    checksum = xxh3_64(uuid).to_bytes(codec.CHECKSUM_BYTES, "little")
    size = codec.UUID_BYTES + codec.CHECKSUM_BYTES
    newest = max(after, source.version)
    hello = codec.encode_head(number, Kind.HELLO, False, 0, size, after, newest)
    write(hello + uuid + checksum)
    upto = after
    while first is not None:
        for part in split(first):
            number += 1
            write(codec.encode_frame(number, part))
        upto = first.upto
        first = next(pieces, None)
    write(codec.encode_head(number + 1, Kind.END, False, 0, 0, upto, upto))


def split(piece: Piece) -> Iterator[Piece]:
    """Yield a piece in parts that are not too large for a frame."""
    after, start, size = piece.after, 0, 0
    for number, change in enumerate(piece.changes):
        if number - start == codec.CHANGES_MAX or size > SPLIT_BYTES:
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
        self._read, self._at, self._number = read, 0, 0
        head, data = self._frame()
        if head.kind != Kind.HELLO:
            raise ProtocolError("a stream", 0, "a hello", head.kind.name)
        uuid = data[: codec.UUID_BYTES]
        found = int.from_bytes(data[codec.UUID_BYTES :], "little")
        if found != xxh3_64(uuid):
            at = self._at - len(data)
            raise ProtocolError("a uuid", at, f"{xxh3_64(uuid):016x}", f"{found:016x}")
        self.uuid = uuid  # of the sender's store; zeros: it did not say
        self.after = head.after  # the stream begins behind this version
        self._version = head.upto

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
        return self._pieces(OrderGuard(after), follow)

    def _pieces(self, guard: OrderGuard, follow: bool) -> Iterator[Piece]:
        reached = self.after
        while True:
            head, data = self._frame()
            begin = self._at - len(data) - codec.HEADER.size
            if head.kind == Kind.HELLO or head.after != reached:
                found = f"{head.kind.name} behind {head.after}"
                raise ProtocolError("a frame", begin, f"what follows on {reached}", found)
            if head.kind == Kind.END:
                return
            changes = codec.decode_changes(head, data, self._number - 1, self._at - len(data))
            reached = head.upto
            self._version = max(self._version, reached)
            passed = guard.take(Piece(head.after, head.upto, changes, head.whole))
            if passed is not None:
                yield passed
                if passed.whole and not follow:
                    return

    def _frame(self) -> tuple[Head, bytes]:
        head = codec.decode_head(self._exactly(codec.HEADER.size), self._number, self._at)
        self._at += codec.HEADER.size
        data = self._exactly(head.size)
        self._at += head.size
        self._number += 1
        return head, data

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            got = self._read(min(size - len(data), READ_BYTES))
            if not got:
                at = self._at + len(data)
                raise ProtocolError("a stream", at, f"{size - len(data)} more bytes", "its end")
            data += got
        return bytes(data)


def receive(read: Callable[[int], bytes]) -> Receiver:
    """Return the source at the far end of a stream, whose hello is read now.

    Args:
        read: as of a socket or a raw file: gives 1 to n bytes, b"" at the end.

    Raises:
        ProtocolError: it is no stream of this kind.
    """
    return Receiver(read)
