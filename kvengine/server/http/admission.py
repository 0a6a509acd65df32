"""Limits of the resources that requests in progress use, in total and for each token.

Invariants:

* A request returns its resources when it ends, however it ends.
* No token takes more than its share, so one client can't block the others.
* Memory does not grow with tokens: nothing is kept for a token without requests in progress.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from weakref import WeakValueDictionary

from kvengine.server.auth.access import Refused
from kvengine.server.settings import ServerSettings

# Each resource has its own threads or connections, so none can exhaust another.
REQUESTS = "requests in progress"
WATCHES = "streams of changes"
LOGS = "readers of the log"
BATCH = "connected edges"
UPLOADS = "large uploads to the primary"
DOWNLOADS = "large downloads from the primary"
MEMORY = "bytes of request bodies and large responses in memory"
DISK = "bytes of bodies in temporary files"
WATCHES_MAX, LOGS_MAX, NEWS_MAX = 1000, 400, 2000
UPLOADS_MAX, DOWNLOADS_MAX = 64, 128
MAKING_MAX = 2  # concurrent pieces of streams of a token, before their size is known
RETRY_S = 1


class Admission:
    """The resources in use at a server.

    Args:
        settings: of the server.

    Thread-safety: for one event loop.
    """

    def __init__(self, settings: ServerSettings) -> None:
        streams = settings.streams_per_token
        self._most = {  # in total, and for one token
            REQUESTS: (settings.connections, settings.requests_per_token),
            WATCHES: (WATCHES_MAX, streams),
            LOGS: (LOGS_MAX, streams),
            BATCH: (NEWS_MAX, NEWS_MAX // 2),  # edges, which share a token
            UPLOADS: (UPLOADS_MAX, UPLOADS_MAX // 4),
            DOWNLOADS: (DOWNLOADS_MAX, DOWNLOADS_MAX // 4),
            MEMORY: (settings.bodies_bytes, settings.bodies_bytes // 2),
            DISK: (settings.spooled_bytes, settings.spooled_bytes // 2),
        }
        self.taken = dict.fromkeys(self._most, 0)
        self._of: dict[tuple[str, str], int] = {}
        self._semaphores: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._making: WeakValueDictionary[str, threading.Semaphore] = WeakValueDictionary()

    def take(self, what: str, token_id: str, count: int = 1) -> None:
        """Take some of a resource.

        Raises:
            Refused: the token (429), or all of them (503), would exceed the limit.
        """
        most, of_one = self._most[what]
        together, mine = self.taken[what] + count, self._of.get((what, token_id), 0) + count
        if mine > of_one:
            raise Refused(429, f"this token has too many {what}: at most {of_one}", RETRY_S)
        if together > most:
            raise Refused(503, f"the server has too many {what}: at most {most}", RETRY_S)
        self.taken[what], self._of[what, token_id] = together, mine

    def give_back(self, what: str, token_id: str, count: int) -> None:
        """Return some of a resource."""
        self.taken[what] -= count
        left = self._of.pop((what, token_id)) - count
        if left:
            self._of[what, token_id] = left

    def semaphore(self, token_id: str) -> asyncio.Lock:
        """Return a lock that one request of a token at a time holds."""
        lock = self._semaphores.get(token_id)
        if lock is None:
            lock = self._semaphores[token_id] = asyncio.Lock()
        return lock

    def making(self, token_id: str) -> threading.Semaphore:
        """Return a semaphore to hold while making a piece of a stream of a token."""
        found = self._making.get(token_id)
        if found is None:
            found = self._making[token_id] = threading.BoundedSemaphore(MAKING_MAX)
        return found


class Share:
    """The resources of one request.

    Args:
        admission: of the server.
        token_id: of the token of the request.
    """

    __slots__ = ("_admission", "_taken", "_token_id")

    def __init__(self, admission: Admission, token_id: str) -> None:
        self._admission, self._token_id = admission, token_id
        self._taken: dict[str, int] = {}

    def take(self, what: str, count: int = 1) -> None:
        """Take some of a resource.

        Raises:
            Refused: none is left.
        """
        self._admission.take(what, self._token_id, count)
        self._taken[what] = self._taken.get(what, 0) + count

    def semaphore(self) -> asyncio.Lock:
        """Return a lock that one request of the token at a time holds."""
        return self._admission.semaphore(self._token_id)

    def making(self) -> threading.Semaphore:
        """Return a semaphore to hold while making a piece of a stream of the token."""
        return self._admission.making(self._token_id)

    def return_some(self, what: str, count: int) -> None:
        """Return some of a resource before the request ends."""
        left = self._taken.pop(what, 0)
        if left > count:
            self._taken[what] = left - count
        if left:
            self._admission.give_back(what, self._token_id, min(left, count))

    def give_back(self) -> None:
        """Return all resources."""
        while self._taken:
            what, count = self._taken.popitem()
            self._admission.give_back(what, self._token_id, count)


def stream_kind(path: Sequence[bytes]) -> str | None:
    """Return the kind of stream at a path; None: not a stream."""
    match path:
        case [b"v1", b"log"]:
            return LOGS
        case [b"v1", b"changes"]:
            return BATCH
        case [b"v1", b"live"] | [b"v1", b"ns", _, b"watch" | b"history"] | [b"v1", b"db", b"tail"]:
            return WATCHES
    return None
