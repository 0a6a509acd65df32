"""A primary over the network, as the upstream of an edge.

Changes come as a stream, which the edge takes up poll by poll.  A batch says how long
after the beginning of its stream it was true (`waited`, on the clock of the primary); counted from
the moment at which the stream was asked for, on the clock here, that is earlier than it was.  The
primary ends a stream after a few minutes, so that clocks that run apart make little of it.

Invariants:

* `done` is called once for each request, at the latest after the timeout.
* Nothing that comes, or does not come, ends the thread that reads the changes.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kvengine.client.connection import Connection, Stream
from kvengine.client.fetcher import Fetcher
from kvengine.client.heartbeat import Heartbeat
from kvengine.edge import codec
from kvengine.edge.codec import Kind
from kvengine.edge.messages import ChangeBatch, Done, KeyRequest
from kvengine.engine.following.changes import Flag
from kvengine.errors import KvError, ProtocolError, UpstreamUnavailable

CLOCKS_APART = 0.001  # how much faster one may run than another; see edge/PROMISES.md
logger = logging.getLogger("kvengine")


class Poll(NamedTuple):
    """An edge that waits for changes."""

    after: int
    poll_timeout_s: float
    done: Done
    asked: float


class RemoteUpstream:
    """Requests and polls of an edge, over a connection.

    Args:
        connection: to the primary; the caller closes it, after this.
        timeout: seconds for a request.

    Thread-safety: threads may share it.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout
        self._fetcher = Fetcher(connection, timeout)
        self._heartbeat: Heartbeat | None = None
        self._wanted = Flag()
        self._poll: Poll | None = None
        self._stream: Stream | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="kvengine-changes", daemon=True)
        self._thread.start()

    # -- requests

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Call `done` with a list of Answers, or with the error instead."""
        self._fetcher.fetch(requests, done)

    def origin_version(self, done: Done) -> None:
        """Call `done` with the newest version of the primary."""
        self._fetcher.version(done)

    # -- changes

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Call `done` with the next changes behind a version."""
        if self._heartbeat is not None:
            self._heartbeat.reached(after)  # it asks for what follows, so it has everything before
        self._poll = Poll(after, poll_timeout_s, done, time.monotonic())
        self._wanted.set()

    def tell(self, name: str, report: Callable[[], dict[str, int]]) -> None:
        """From now on tell the primary which version has been reached.

        Args:
            name: of the edge.
            report: gives its position, reads, hits and memory_bytes.
        """
        self._heartbeat = Heartbeat(self._connection, name, report)
        self._heartbeat.begin()

    def _run(self) -> None:
        follower = NewsStream(self._connection)
        while (poll := self._next()) is not None:
            result: ChangeBatch | Exception
            try:
                if follower.position != poll.after:
                    self._stream = None
                    self._stream = follower.begin(poll.after, poll.poll_timeout_s)
                changes, moment = follower.next()
                result = changes._replace(waited=moment - poll.asked)
            except (KvError, OSError) as error:
                follower.end()
                result = error
            except Exception:
                logger.exception("can't read changes from the primary")
                follower.end()
                result = UpstreamUnavailable("can't read changes from the primary")
            try:
                poll.done(result)
            except Exception:
                logger.exception("can't apply changes from the primary")
        follower.end()

    def _next(self) -> Poll | None:
        while not self._closed:
            self._wanted.wait()
            self._wanted.clear()  # first: what is set now may be asked for already
            poll, self._poll = self._poll, None
            if poll is not None:
                return None if self._closed else poll
        return None

    def close(self) -> None:
        """End the threads; requests under way are answered with an error or not at all."""
        self._closed = True
        self._wanted.set()
        stream = self._stream
        if stream is not None:
            stream.close_now()
        if self._heartbeat is not None:
            self._heartbeat.close()
        self._fetcher.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(self._timeout)


class NewsStream:
    """The changes of a primary, one after the other.

    Thread-safety: for one thread.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.position = -1  # the next changes are those behind this version; -1: none are coming
        self._stream: Stream | None = None
        self._frames: Any = None
        self._began = 0.0
        self._poll_timeout_s = 1.0
        self._is_new = True

    def begin(self, after: int, poll_timeout_s: float) -> Stream:
        """Ask for the changes behind a version; heartbeats come every `poll_timeout_s` seconds."""
        self.end()
        self._began = time.monotonic()
        path = f"/v1/changes?after={after}&hold={poll_timeout_s:g}"
        self._stream = self._connection.stream("GET", path, None, 2 * poll_timeout_s + 1)
        self._frames = codec.frames(self._stream.read, Kind.CHANGES)
        self.position, self._poll_timeout_s, self._is_new = after, poll_timeout_s, True
        return self._stream

    def next(self) -> tuple[ChangeBatch, float]:
        """Return changes, and the moment here at which they were true, or an earlier one."""
        try:
            changes = next(self._frames, None)
            if changes is None and not self._is_new:  # it has lasted long enough
                self.begin(self.position, self._poll_timeout_s)
                changes = next(self._frames, None)
        except ProtocolError as error:
            raise UpstreamUnavailable(f"received damaged changes: {error}") from error
        except OSError as error:
            raise UpstreamUnavailable(f"the stream of changes was interrupted: {error}") from error
        if not isinstance(changes, ChangeBatch) or changes.after != self.position:
            raise UpstreamUnavailable("the server sent changes that were not requested")
        if changes.waited < 0 or not math.isfinite(changes.waited):
            raise UpstreamUnavailable("received changes dated in the future")
        self._is_new = False
        # What is behind what was asked for is another store, or one that lost its last changes.
        self.position = changes.upto
        moment = self._began + changes.waited * (1 - CLOCKS_APART)
        return changes, min(moment, time.monotonic())

    def end(self) -> None:
        """Read no more."""
        self.position = -1
        if self._stream is not None:
            self._stream.close()
            self._stream = None
