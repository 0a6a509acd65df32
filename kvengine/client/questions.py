"""The questions of a location: asked of the center over a connection, on a few threads.

Questions that wait for a thread are sent together, so the busier a location is the less each costs.

Invariants:

* `done` is called once for each question, with its own answers or the error instead.
* A question that the center refuses, because its namespace is gone, does not fail the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from kvengine.client.connection import Connection
from kvengine.errors import KvError, ProtocolError, UpstreamUnavailable
from kvengine.tier import codec
from kvengine.tier.board import Done
from kvengine.tier.codec import Kind
from kvengine.tier.messages import Answer, Want

THREADS = 16  # requests under way at once
WANTS_AT_ONCE = 1000
QUESTIONS_AT_ONCE = 16  # of 25 MiB each they still fit into what a connection takes as an answer
logger = logging.getLogger("kvengine")


class Question(NamedTuple):
    """What waits to be asked."""

    wants: Sequence[Want]
    done: Done
    deadline: float


class Questions:
    """Asks a center.

    Args:
        connection: to the center; the caller closes it, after this.
        timeout: seconds for a question.

    Thread-safety: threads may share it.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kvengine-ask")
        self._lock = threading.Lock()
        self._waiting: deque[Question] = deque()

    def fetch(self, wants: Sequence[Want], done: Done) -> None:
        """Call `done` with a list of Answers, or with the error instead."""
        with self._lock:
            self._waiting.append(Question(wants, done, time.monotonic() + self._timeout))
        self._submit(self._ask_together, done)

    def version(self, done: Done) -> None:
        """Call `done` with the newest version of the center."""
        deadline = time.monotonic() + self._timeout
        self._submit(lambda: done(tried(self._version, deadline)), done)

    def _submit(self, call: Callable[[], None], done: Done) -> None:
        try:
            self._threads.submit(call)
        except RuntimeError:
            done(UpstreamUnavailable("the location was closed"))

    def _ask_together(self) -> None:
        """Ask what waits; another thread may have asked it already."""
        with self._lock:
            count = min(len(self._waiting), QUESTIONS_AT_ONCE)
            questions = [self._waiting.popleft() for _ in range(count)]
        if not questions:
            return
        wants = [want for question in questions for want in question.wants]
        deadline = min(question.deadline for question in questions)
        found = tried(lambda: self._fetch(wants), deadline)
        if len(questions) == 1:
            questions[0].done(found)
        elif isinstance(found, Exception) and not isinstance(found, UpstreamUnavailable):
            for one in questions:
                one.done(tried(lambda wants=one.wants: self._fetch(wants), one.deadline))  # type: ignore[misc]
        else:
            start = 0
            for one in questions:
                end = start + len(one.wants)
                one.done(found if isinstance(found, Exception) else found[start:end])
                start = end

    def _fetch(self, wants: Sequence[Want]) -> list[Answer]:
        found: list[Answer] = []
        for start in range(0, len(wants), WANTS_AT_ONCE):
            part = wants[start : start + WANTS_AT_ONCE]
            body = self._connection.post("/v1/fetch", codec.encode_wants(part), self._timeout)
            try:
                for answers in codec.frames(reader(body), Kind.ANSWERS):
                    found += answers  # type: ignore[arg-type]
            except ProtocolError as error:
                raise UpstreamUnavailable(f"an answer came damaged: {error}") from error
        if len(found) != len(wants):
            raise UpstreamUnavailable(f"{len(found)} answers came to {len(wants)} questions")
        return found

    def _version(self) -> int:
        found = self._connection.call("/v1/version?location=1", None)
        try:
            return int(found["version"])
        except (TypeError, KeyError, ValueError):
            raise UpstreamUnavailable("the server does not say its version") from None

    def close(self) -> None:
        """Ask no more; questions under way are answered with an error or not at all."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def tried(ask: Callable[[], Any], deadline: float) -> Any:
    """Return what a question gives, or its error."""
    if time.monotonic() > deadline:
        return UpstreamUnavailable("too many questions to the server are under way")
    try:
        return ask()
    except (KvError, OSError) as error:
        return error
    except Exception as error:
        logger.exception("a question to the center failed")
        return UpstreamUnavailable(f"a question failed: {type(error).__name__}")


def reader(body: bytes) -> Callable[[int], bytes]:
    """Return a function that reads from bytes."""
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        found = body[at : at + size]
        at += len(found)
        return found

    return read
