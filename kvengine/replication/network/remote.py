"""The log of a store elsewhere, read over connections that may break.

Invariants:

* Pieces of one call come over one connection; where it breaks an error says so, and the next call
  continues from the version that its caller has.
* Another store than the first one that answered is refused.
* Following changes continues after an interruption: each change once, in order, none left out.
* A forked child reads nothing from a connection of its parent; a follower there opens another.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from random import SystemRandom

from kvengine.entry import Change
from kvengine.errors import ProtocolError, ReplicaDiverged, UpstreamUnavailable, pass_on
from kvengine.file.system import process_id
from kvengine.replication.network.log_request import ANY_STORE, LogRequest, encode_request
from kvengine.replication.network.log_server import Address
from kvengine.replication.network.messages import Piece
from kvengine.replication.network.stream import Receiver, receive

CONNECT_S = 10.0
SILENCE_S = 10.0  # five heartbeats
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0
CHANCE = SystemRandom()  # so that many do not come back at once


class RemoteSource:
    """The log of a store elsewhere, as a Source; connect_log() makes one.

    Args:
        connect: opens a connection to a log server; raises OSError if it can't.

    Thread-safety: threads may share it; an iterator is for one.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._uuid, self._version = ANY_STORE, 0

    @property
    def uuid(self) -> bytes:
        """Which store it is: 16 bytes.

        Raises:
            UpstreamUnavailable: it has not been reached yet, and can't be.
        """
        self._meet()
        return self._uuid

    @property
    def version(self) -> int:
        """The newest version that the source has reported.

        Raises:
            UpstreamUnavailable: it has not been reached yet, and can't be.
        """
        self._meet()
        return self._version

    def _meet(self) -> None:
        if self._uuid == ANY_STORE:
            with closing(self._open(LogRequest(0, follow=False))[0]):
                pass

    def pieces(self, after: int, *, follow: bool = False) -> Iterator[Piece]:
        """Yield the log after a version, over one connection; see Source.

        Raises:
            UpstreamUnavailable: the connection could not be made, or broke.
            LogCompacted: deletes after `after` have been compacted away; start over from 0.
            ReplicaDiverged: another store answers.
        """
        connection, far = self._open(LogRequest(after, follow, self._uuid))
        process = process_id()
        with closing(connection):
            try:
                pieces = far.pieces(after, follow=follow)
                while process == process_id() and (piece := next(pieces, None)) is not None:
                    self._version = max(self._version, far.version)
                    yield piece
            except (OSError, ProtocolError) as error:
                pass_on(error)
                raise UpstreamUnavailable(
                    f"the connection to the log server broke: {error}"
                ) from error
        if process != process_id():  # what comes over it is the parent's
            raise UpstreamUnavailable("this process was forked from the one that reads the log")

    def _open(self, request: LogRequest) -> tuple[socket.socket, Receiver]:
        try:
            connection = self._connect()
        except OSError as error:
            raise UpstreamUnavailable(f"can't reach the log server: {error}") from error
        try:
            connection.settimeout(SILENCE_S)
            connection.sendall(encode_request(request))
            far = receive(own(connection.recv))
        except (OSError, ProtocolError) as error:
            connection.close()
            pass_on(error)
            raise UpstreamUnavailable(f"the log server does not answer: {error}") from error
        if self._uuid not in (ANY_STORE, far.uuid):
            connection.close()
            raise ReplicaDiverged(
                f"store {far.uuid.hex()} answered instead of {self._uuid.hex()}: it is another log"
            )
        self._uuid, self._version = far.uuid, max(self._version, far.version)
        return connection, far

    def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[Change]:
        """Return an iterator over the changes after a version, in order; see Store.tail().

        With `follow` it reconnects whenever necessary, after increasing pauses.

        Args:
            after: a version; 0: the whole log.
            follow: wait for more changes; otherwise end with the present ones.
            timeout: with `follow`, end after this many seconds without a change; None: never.

        Raises:
            LogCompacted, ReplicaDiverged: as of pieces(); without `follow` UpstreamUnavailable too.
        """
        pause, received_at = FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                for piece in self.pieces(after, follow=follow):
                    yield from piece.changes
                    after, pause = piece.upto, FIRST_PAUSE_S
                    if piece.changes:
                        received_at = time.monotonic()
                    elif timeout is not None and time.monotonic() - received_at >= timeout:
                        return
                if not follow:
                    return
            except UpstreamUnavailable:
                if not follow:
                    raise
            if timeout is not None and time.monotonic() - received_at >= timeout:
                return
            time.sleep(pause * CHANCE.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def __repr__(self) -> str:
        return f"<kvengine.RemoteSource of store {self._uuid.hex()}>"


def own(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return a function that reads only in this process, not in one that is forked from it."""
    process = process_id()

    def guarded(size: int) -> bytes:
        if process_id() != process:
            raise OSError("this process was forked from the one that reads this stream")
        return read(size)

    return guarded


def connect_log(address: Address) -> RemoteSource:
    """Return the log that serve_log() serves at an address.  This does not connect yet.

    A Follower of it is a replica on another machine; tail() reads its changes.

    Args:
        address: the path of a Unix socket, or host and port.
    """

    def connect() -> socket.socket:
        if not isinstance(address, str):
            return socket.create_connection(address, CONNECT_S)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_S)
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    return RemoteSource(connect)
