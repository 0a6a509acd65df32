"""The requests of an edge to the primary, sent over a connection by a few threads.

Requests that wait for a thread are sent together, so the busier an edge is, the less each costs.

Invariants:

* `done` is called once for each request, with its answers or an error.
* If the primary refuses a request, because its namespace was deleted, the others do not fail.
* A finalizer that asks on one of these threads gets an answer: it does not wait for the threads.
* A connection that is silently dead costs a request two seconds: then it is sent again over a new
  one.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

from kvengine.client.connection import Connection
from kvengine.client.packing import pack, unpack
from kvengine.edge import codec
from kvengine.edge.codec import Kind
from kvengine.edge.messages import Answer, Done, KeyRequest
from kvengine.edge.upstream.fetching import transport_threads
from kvengine.errors import KvError, ProtocolError, UpstreamUnavailable

THREADS = 16  # requests under way at once
REQUESTS_MAX = 1000
FIRST_S = 2.0  # how long an answer may take over a connection that was used before
FETCHES_MAX = 16  # of 25 MiB each they still fit into what a connection takes as an answer
logger = logging.getLogger("kvengine")


class Fetch(NamedTuple):
    """What waits to be sent."""

    requests: Sequence[KeyRequest]
    done: Done
    deadline: float


class Fetcher:
    """Asks a primary.

    Args:
        connection: to the primary; the caller closes it, after this.
        timeout: seconds for a request.

    Thread-safety: threads may share it.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout
        # Neither the deque nor the queue has a lock that a signal handler could wait for, which
        # asks something while its thread does.
        self._waiting: deque[Fetch] = deque()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()  # of the threads that ask
        self._count, self._closed = 0, False
        self._begin_thread()

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Call `done` with a list of Answers, or with the error instead."""
        self._waiting.append(Fetch(requests, done, time.monotonic() + self._timeout))
        self._submit(self._ask_together, done)

    def version(self, done: Done) -> None:
        """Call `done` with the newest version of the primary."""
        deadline = time.monotonic() + self._timeout
        self._submit(lambda: done(tried(lambda: self._version(deadline), deadline)), done)

    def _submit(self, call: Callable[[], None], done: Done) -> None:
        if self._closed:
            done(UpstreamUnavailable("the edge was closed"))
        elif threading.get_ident() in transport_threads:
            threading.Thread(target=call, name="kvengine-ask_inside", daemon=True).start()
        else:
            self._calls.put(call)

    def _begin_thread(self) -> None:
        self._count += 1
        name = f"kvengine-ask_{self._count}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        """Make calls; let there be another thread while some wait."""
        transport_threads.add(threading.get_ident())
        while (call := self._calls.get()) is not None:
            with self._lock:
                if not self._calls.empty() and self._count < THREADS and not self._closed:
                    self._begin_thread()
            try:
                call()
            except Exception:
                logger.exception("can't process an answer of the primary")
            del call  # it refers to the caller
        self._calls.put(None)  # for the next thread
        transport_threads.discard(threading.get_ident())  # another thread may get the number

    def _ask_together(self) -> None:
        """Ask what waits; another thread may have asked it already."""
        fetches: list[Fetch] = []
        with suppress(IndexError):
            while len(fetches) < FETCHES_MAX:
                fetches.append(self._waiting.popleft())
        if not fetches:
            return
        requests = [request for fetch in fetches for request in fetch.requests]
        deadline = min(fetch.deadline for fetch in fetches)
        found = tried(lambda: self._fetch(requests, deadline), deadline)
        if len(fetches) == 1:
            fetches[0].done(found)
        elif isinstance(found, Exception) and not isinstance(found, UpstreamUnavailable):
            for one in fetches:
                one.done(
                    tried(functools.partial(self._fetch, one.requests, one.deadline), one.deadline)
                )
        else:
            start = 0
            for one in fetches:
                end = start + len(one.requests)
                one.done(found if isinstance(found, Exception) else found[start:end])
                start = end

    def _fetch(self, requests: Sequence[KeyRequest], deadline: float) -> list[Answer]:
        found: list[Answer] = []
        for start in range(0, len(requests), REQUESTS_MAX):
            part = requests[start : start + REQUESTS_MAX]
            body = self._post("/v1/fetch", codec.encode_requests(part), deadline)
            try:
                for answers in codec.frames(reader(body), Kind.ANSWERS):
                    found += answers  # type: ignore[arg-type]
            except ProtocolError as error:
                raise UpstreamUnavailable(f"received a damaged answer: {error}") from error
        if len(found) != len(requests):
            raise UpstreamUnavailable(f"received {len(found)} answers to {len(requests)} requests")
        return found

    def _version(self, deadline: float) -> int:
        body = self._post("/v1/version?edge=1", pack(None), deadline)
        try:
            return int(unpack(body)["version"])
        except (TypeError, KeyError, ValueError, ProtocolError):
            raise UpstreamUnavailable("the server did not report its version") from None

    def _post(self, path: str, body: bytes, deadline: float) -> bytes:
        """Return an answer; what gets none is asked once more over a new connection."""
        rest = deadline - time.monotonic()
        try:
            return self._connection.post(path, body, min(rest, FIRST_S) if rest > 0 else FIRST_S)
        except UpstreamUnavailable as error:
            rest = deadline - time.monotonic()
            if rest <= 0 or not self._connection.may_be_dead(error):
                raise
        found = self._connection.post(path, body, rest, new=True)
        self._connection.drop_idle()  # others may be dead as well
        return found

    def close(self) -> None:
        """Ask no more; requests under way are answered with an error or not at all."""
        self._closed = True
        self._calls.put(None)


def tried(ask: Callable[[], Any], deadline: float) -> Any:
    """Return what a request gives, or its error."""
    if time.monotonic() > deadline:
        return UpstreamUnavailable("too many requests to the server are in progress")
    try:
        return ask()
    except (KvError, OSError) as error:
        return error
    except Exception as error:
        logger.exception("a request to the primary failed")
        return UpstreamUnavailable(f"a request failed: {type(error).__name__}")


def reader(body: bytes) -> Callable[[int], bytes]:
    """Return a function that reads from bytes."""
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        found = body[at : at + size]
        at += len(found)
        return found

    return read
