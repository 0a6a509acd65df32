"""A primary over the network, as the upstream of an edge.

News come as a stream, which the edge takes up poll by poll.  A piece of news says how long
after the beginning of its stream it was true (`waited`, on the clock of the primary); counted from
the moment at which the stream was asked for, on the clock here, that is earlier than it was.  The
primary ends a stream after a few minutes, so that clocks that run apart make little of it.

Invariants:

* `done` is called once for each question, at the latest after the timeout.
* Nothing that comes, or does not come, ends the thread that reads the news.
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
from kvengine.edge.messages import Done, News, Want
from kvengine.engine.following.changes import Flag
from kvengine.errors import KvError, ProtocolError, UpstreamUnavailable

CLOCKS_APART = 0.001  # how much faster one may run than another; see edge/PROMISES.md
logger = logging.getLogger("kvengine")


class Poll(NamedTuple):
    """Who waits for news."""

    after: int
    poll_timeout_s: float
    done: Done
    asked: float


class RemoteUpstream:
    """Questions and polls of an edge, over a connection.

    Args:
        connection: to the primary; the caller closes it, after this.
        timeout: seconds for a question.

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
        self._thread = threading.Thread(target=self._run, name="kvengine-news", daemon=True)
        self._thread.start()

    # -- questions

    def fetch(self, wants: Sequence[Want], done: Done) -> None:
        """Call `done` with a list of Answers, or with the error instead."""
        self._fetcher.fetch(wants, done)

    def origin_version(self, done: Done) -> None:
        """Call `done` with the newest version of the primary."""
        self._fetcher.version(done)

    # -- news

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Call `done` with the next news behind a version."""
        if self._heartbeat is not None:
            self._heartbeat.reached(after)  # who asks what comes behind it has all before
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
            result: News | Exception
            try:
                if follower.position != poll.after:
                    self._stream = None
                    self._stream = follower.begin(poll.after, poll.poll_timeout_s)
                news, moment = follower.next()
                result = news._replace(waited=moment - poll.asked)
            except (KvError, OSError) as error:
                follower.end()
                result = error
            except Exception:
                logger.exception("can't read news from the primary")
                follower.end()
                result = UpstreamUnavailable("can't read news from the primary")
            try:
                poll.done(result)
            except Exception:
                logger.exception("can't apply news from the primary")
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
        """End the threads; questions under way are answered with an error or not at all."""
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
    """The news of a primary, one after the other.

    Thread-safety: for one thread.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.position = -1  # the next news are those behind this version; -1: none are coming
        self._stream: Stream | None = None
        self._frames: Any = None
        self._began = 0.0
        self._poll_timeout_s = 1.0
        self._is_new = True

    def begin(self, after: int, poll_timeout_s: float) -> Stream:
        """Ask for the news behind a version; heartbeats come every `poll_timeout_s` seconds."""
        self.end()
        self._began = time.monotonic()
        path = f"/v1/news?after={after}&hold={poll_timeout_s:g}"
        self._stream = self._connection.stream("GET", path, None, 2 * poll_timeout_s + 1)
        self._frames = codec.frames(self._stream.read, Kind.NEWS)
        self.position, self._poll_timeout_s, self._is_new = after, poll_timeout_s, True
        return self._stream

    def next(self) -> tuple[News, float]:
        """Return news, and the moment here at which they were true, or an earlier one."""
        try:
            news = next(self._frames, None)
            if news is None and not self._is_new:  # it has lasted long enough
                self.begin(self.position, self._poll_timeout_s)
                news = next(self._frames, None)
        except ProtocolError as error:
            raise UpstreamUnavailable(f"received damaged news: {error}") from error
        except OSError as error:
            raise UpstreamUnavailable(f"the stream of news was interrupted: {error}") from error
        if not isinstance(news, News) or news.after != self.position:
            raise UpstreamUnavailable("the server sent news that were not requested")
        if news.waited < 0 or not math.isfinite(news.waited):
            raise UpstreamUnavailable("received news dated in the future")
        self._is_new = False
        # What is behind what was asked for is another store, or one that lost its last changes.
        self.position = news.upto
        moment = self._began + news.waited * (1 - CLOCKS_APART)
        return news, min(moment, time.monotonic())

    def end(self) -> None:
        """Read no more."""
        self.position = -1
        if self._stream is not None:
            self._stream.close()
            self._stream = None
