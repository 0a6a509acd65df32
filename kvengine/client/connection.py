"""Requests to a server from threads: what it answers, or an error of kvengine.

Invariants:

* Errors, limits and timeouts are those of endpoint.py.
* A connection is used by one request at a time, with a transport of its own that has no locks: none
  is wanted twice by a signal handler or a finalizer, nor left locked by Ctrl-C.
* A connection is used again only after an answer that was read to its end.  One on which a request
  was interrupted is closed, so that nobody is given the answer of another request.
* A forked child makes its own connections, closes its copies of its parent's, and touches no more.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from kvengine.client.endpoint import (
    ANSWER_BYTES_MAX,
    ERROR_BYTES_MAX,
    IDLE_MAX,
    IDLE_S,
    Endpoint,
    add_piece,
    answer_of,
)
from kvengine.client.libraries import needed
from kvengine.client.packing import pack
from kvengine.errors import UpstreamUnavailable, pass_on
from kvengine.file.system import fork_watch, process_id, run_fork_hooks

of_parents: list[Any] = []  # what a child must not close, nor let be collected


class Connection(Endpoint):
    """A server, as far as its requests go; see Endpoint for the arguments.

    Thread-safety: threads may share it.  In a forked child it works, with connections of its own.
    """

    def __init__(self, url: str, token: str | None, timeout: float, verify: Any = True) -> None:
        super().__init__(url, token, timeout, verify)
        self._closed = False
        self._begin()
        fork_watch(self, Connection._after_fork)

    def _begin(self) -> None:
        self._process = process_id()
        self._idle: deque[tuple[Any, float]] = deque()  # transports, and when they were used
        self._sockets: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def _after_fork(self) -> None:
        of_parents.append(self._idle)
        for one in self._sockets.valuerefs():
            found = one()
            if found is not None:
                with contextlib.suppress(OSError):
                    found.close()  # the copy of this process: the parent's stays open
        self._begin()

    def _take(self, *, new: bool) -> Any:
        """Return a transport nobody else has: with the connection used last, or without one."""
        if self._closed:
            raise UpstreamUnavailable("the connection was closed")
        if self._process != process_id():  # forked by a program that does not tell Python
            run_fork_hooks(lambda: self._process == process_id())
        if not new:
            with contextlib.suppress(IndexError):
                return self._idle.pop()[0]
        transport = self.http.HTTPTransport(**self.transport_options)
        take_locks_away(transport)
        return transport

    def _give_back(self, transport: Any) -> None:
        now = time.monotonic()
        self._idle.append((transport, now))
        with contextlib.suppress(IndexError):
            while self._closed or len(self._idle) > IDLE_MAX or self._idle[0][1] < now - IDLE_S:
                self._idle.popleft()[0].close()

    def call(self, path: str, arguments: Any, timeout: float | None = None) -> Any:
        """Return what a call at the server gives.

        Raises:
            KvError: the one that it raised there, or UpstreamUnavailable.
        """
        return self.call_at(path, arguments, timeout)[0]

    def call_at(self, path: str, arguments: Any, timeout: float | None = None) -> tuple[Any, int]:
        """Return what a call gives, and the server's newest version after it (0: not said)."""
        with self._answer("POST", path, pack(arguments), timeout) as response:
            data = _all_of(response, ANSWER_BYTES_MAX)
        return answer_of(response, data)

    def post(
        self, path: str, body: bytes, timeout: float | None = None, *, new: bool = False
    ) -> bytes:
        """Return the body of an answer; with `new`, over a connection of its own."""
        with self._answer("POST", path, body, timeout, new=new) as response:
            return _all_of(response, ANSWER_BYTES_MAX)

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: bytes | None,
        timeout: float | None,
        *,
        new: bool = False,
    ) -> Iterator[Any]:
        transport, is_whole = self._take(new=new), False
        try:
            request = self.request(method, path, body, timeout)
            with (
                self.failures(),
                contextlib.closing(transport.handle_request(request)) as response,
            ):
                self._note_socket(response)
                if response.status_code != 200:
                    said = _all_of(response, ERROR_BYTES_MAX)
                    is_whole = True
                    raise self.refusal(response, said)
                self.check_store(response)
                yield response
            is_whole = True
        finally:
            if is_whole and not new:
                self._give_back(transport)
            else:
                transport.close()

    def _note_socket(self, response: Any) -> None:
        network = response.extensions.get("network_stream")
        found = None if network is None else network.get_extra_info("socket")
        if found is not None:
            self._sockets[id(found)] = found

    def stream(self, method: str, path: str, body: bytes | None, silence_s: float) -> Stream:
        """Return an answer that has no end.

        Args:
            method, path, body: of the request.
            silence_s: without a byte for so long it is taken for dead.
        """
        stack = contextlib.ExitStack()
        try:
            answer = self._answer(method, path, body, silence_s, new=True)
            return Stream(stack.enter_context(answer), stack)
        except BaseException:
            stack.close()
            raise

    def drop_idle(self) -> None:
        """Let requests from now on use new connections: one that was used again is dead.

        Requests in progress keep the old one.
        """
        with contextlib.suppress(IndexError):
            while True:
                self._idle.popleft()[0].close()

    def close(self) -> None:
        """Close all connections; requests under way fail."""
        self._closed = True
        self.drop_idle()
        for one in self._sockets.valuerefs():
            found = one()
            if found is not None:
                with contextlib.suppress(OSError):
                    found.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer


class Stream:
    """The body of an answer, piece by piece.

    Thread-safety: for one thread, except close_now().
    """

    def __init__(self, response: Any, stack: contextlib.ExitStack) -> None:
        self._pieces, self._stack = response.iter_raw(), stack
        self._network = response.extensions.get("network_stream")
        self._process = process_id()
        self._left = b""

    def read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or b"" at the end.

        Raises:
            OSError: the connection broke, or was silent for too long, or is that of a parent.
        """
        while not self._left:
            if process_id() != self._process:
                raise OSError("this process was forked from the one that reads this stream")
            try:
                piece = next(self._pieces, None)
            except (OSError, needed("httpx").HTTPError, needed("httpx").StreamError) as error:
                pass_on(error)
                raise OSError(f"{type(error).__name__}: {error}") from error
            if piece is None:
                return b""
            self._left = piece
        found, self._left = self._left[:size], self._left[size:]
        return found

    def close(self) -> None:
        """Give the connection back."""
        if process_id() != self._process:
            of_parents.append(self._stack)
            return
        with contextlib.suppress(Exception):  # whatever it says, it is gone
            self._stack.close()

    def close_now(self) -> None:
        """Wake the thread that reads, from another one."""
        found = None if self._network is None else self._network.get_extra_info("socket")
        if found is not None and process_id() == self._process:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


def take_locks_away(transport: Any) -> None:
    """Let a client of one request at a time have no locks: an exception could leave one locked.

    An asyncio transport may also do without: each of its locks gives up the event loop.

    Ctrl-C between the taking of a lock of httpcore and what follows would let the library wait for
    itself, in the very handler that cleans up.  Where the library has no such locks, nothing is
    changed.
    """
    pool: Any = getattr(transport, "_pool", None)
    if not hasattr(pool, "_optional_thread_lock"):
        return
    pool._optional_thread_lock = contextlib.nullcontext()
    make = pool.create_connection

    def create(origin: Any) -> Any:
        made = make(origin)
        made.__class__ = _without_locks(made.__class__)
        made._request_lock = contextlib.nullcontext()
        return made

    pool.create_connection = create


@functools.cache
def _without_locks(kind: Any) -> Any:
    def keep(self: Any, name: str, value: Any) -> None:
        if hasattr(value, "_state_lock"):  # of what speaks HTTP on the connection
            value._state_lock = contextlib.nullcontext()
        kind.__setattr__(self, name, value)

    return type(kind.__name__, (kind,), {"__setattr__": keep})


def _all_of(response: Any, most: int) -> bytes:
    found = bytearray()
    for piece in response.iter_raw():
        add_piece(found, piece, most)
    return bytes(found)
