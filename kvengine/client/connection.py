"""Requests to a server: what it answers, or an error of kvengine.

Invariants:

* Whatever goes wrong on the way is UpstreamUnavailable, never an error of the HTTP library.
* No more is read of an answer than its limit allows, and no wait is without an end.
* Another store than the first one that answered is refused.
* A connection is used by one request at a time, with a client of its own that has no locks: none is
  wanted twice by a signal handler or a finalizer, nor left locked by Ctrl-C.
* A connection is used again only after an answer that was read to its end.  One on which a request
  was interrupted is closed, so that nobody is given the answer of another request.
* A forked child makes its own connections, closes its copies of its parent's, and touches no more.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import time
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from kvengine.client.bearer import bearer
from kvengine.client.failures import error_of
from kvengine.client.libraries import needed
from kvengine.client.packing import pack, unpack
from kvengine.errors import (
    AccessDenied,
    InvalidRequest,
    KvError,
    ProtocolError,
    RateLimited,
    UpstreamUnavailable,
    pass_on,
)
from kvengine.file.system import fork_watch, process_id, tell_of_fork

TIMEOUT_S = 10.0
CONNECT_S = 5.0
ANSWER_BYTES_MAX = 512 << 20
ERROR_BYTES_MAX = 1 << 16
IDLE_MAX = 100  # connections that wait to be used again
IDLE_S = 5.0  # and for how long
STORE_HEADER = "kv-store"  # in each answer under /v1: which store it is
VERSION_HEADER = "kv-version"  # in the answer of a call: the newest version after it
VERSION = re.compile("[0-9]{1,15}")  # versions have 48 bits


# The system gives up a connection whose far end does not acknowledge what was sent: a router that
# forgot it drops every packet.
KEEP_ALIVE = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 10_000),
    )
    if hasattr(socket, name)
]
_of_parents: list[Any] = []  # what a child must not close, nor let be collected


class Connection:
    """A server, as far as its requests go.

    Args:
        url: such as "https://kv.example:8787"; a path stands before those of the requests.
        token: what it lets in; None: nothing is sent.
        timeout: seconds that a server may be silent.
        verify: True, or an ssl.SSLContext that says whom to trust.

    Raises:
        InvalidRequest: it is not a valid URL, or a library is not installed.

    Thread-safety: threads may share it.  In a forked child it works, with connections of its own.
    """

    def __init__(self, url: str, token: str | None, timeout: float, verify: Any = True) -> None:
        self._http = needed("httpx")
        needed("msgspec")  # to call, later: who lacks it hears so now
        try:
            parts = self._http.URL(url)
        except (TypeError, self._http.InvalidURL) as error:
            raise InvalidRequest(f"{url!r} is not a valid URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo:
            raise InvalidRequest("give a URL such as http://127.0.0.1:8787, without a password")
        self.url, self._timeout = str(parts).rstrip("/"), timeout
        self._headers = {"accept-encoding": "identity"}
        if token is not None:
            self._headers["authorization"] = bearer(token)
        # Made once: to read all certificates takes longer than a request.
        is_bool = isinstance(verify, bool)
        verify = verify and parts.scheme == "https" if is_bool else verify
        self._verify = (
            self._http.create_ssl_context(verify=verify, trust_env=False) if is_bool else verify
        )
        self._store: dict[str, str] = {}  # which one answers, by the name of the header
        self._closed = False
        self._begin()
        fork_watch(self, Connection._after_fork)

    def _begin(self) -> None:
        self._process = process_id()
        self._idle: deque[tuple[Any, float]] = deque()  # clients, and when they were used
        self._sockets: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def _after_fork(self) -> None:
        _of_parents.append(self._idle)
        for one in self._sockets.valuerefs():
            found = one()
            if found is not None:
                with contextlib.suppress(OSError):
                    found.close()  # the copy of this process: the parent's stays open
        self._begin()

    def _take(self, *, new: bool) -> Any:
        """Return a client that nobody else has: with the connection used last, or without one."""
        if self._closed:
            raise UpstreamUnavailable("the connection was closed")
        if self._process != process_id():  # forked by a program that does not tell Python
            tell_of_fork(lambda: self._process == process_id())
        if not new:
            with contextlib.suppress(IndexError):
                return self._idle.pop()[0]
        http = self._http
        transport = http.HTTPTransport(
            verify=self._verify, trust_env=False, socket_options=KEEP_ALIVE
        )
        _take_locks_away(transport)
        return http.Client(
            headers=self._headers, timeout=self._timeout, transport=transport, trust_env=False
        )

    def _give_back(self, client: Any) -> None:
        now = time.monotonic()
        self._idle.append((client, now))
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
            said = response.headers.get(VERSION_HEADER, "")
        try:
            return unpack(data), version_said(said) or 0
        except ProtocolError as error:
            raise UpstreamUnavailable(f"the server answers something else: {error}") from error

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
        limits = self._http.Timeout(timeout or self._timeout)
        limits.connect = min(limits.connect, CONNECT_S)
        client, is_whole = self._take(new=new), False
        try:
            with client.stream(method, self.url + path, content=body, timeout=limits) as response:
                self._note_socket(response)
                if response.status_code != 200:
                    said = _all_of(response, ERROR_BYTES_MAX)
                    is_whole = True
                    raise self.refusal(response, said)
                self.check_store(response)
                yield response
            is_whole = True
        except (self._http.HTTPError, self._http.StreamError, OSError) as error:
            pass_on(error)
            raise self.failure(error) from error
        except RuntimeError as error:  # the client was closed
            pass_on(error)
            raise UpstreamUnavailable(f"the connection was closed: {error}") from error
        finally:
            if is_whole and not new:
                self._give_back(client)
            else:
                client.close()

    def _note_socket(self, response: Any) -> None:
        network = response.extensions.get("network_stream")
        found = None if network is None else network.get_extra_info("socket")
        if found is not None:
            self._sockets[id(found)] = found

    def failure(self, error: Exception) -> UpstreamUnavailable:
        """Return what a failure of the network is called here."""
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        return UpstreamUnavailable(f"the server at {self.url} fails: {said}")

    def may_be_dead(self, error: UpstreamUnavailable) -> bool:
        """Return whether a request failed because of its connection, and a new one may work."""
        cause, http = error.__cause__, self._http
        return isinstance(cause, http.TransportError) and not isinstance(
            cause, (http.ConnectError, http.ConnectTimeout, http.PoolTimeout)
        )

    def refusal(self, response: Any, body: bytes) -> KvError:
        """Return the error of an answer that is none of those asked for."""
        if response.status_code == 401:
            return AccessDenied(f"the server at {self.url} refuses the token")
        if response.status_code == 429:
            pause = response.headers.get("retry-after", "")
            return RateLimited(float(pause) if pause.isascii() and pause.isdigit() else 1.0)
        return error_of(response.status_code, body)

    def check_store(self, response: Any) -> None:
        """Refuse an answer of another store than the first one that answered.

        Raises:
            UpstreamUnavailable: it is another one, or no server of kvengine.
        """
        found = response.headers.get(STORE_HEADER)
        if found is None:
            raise UpstreamUnavailable(f"what answers at {self.url} is not a kvengine server")
        known = self._store.setdefault(STORE_HEADER, found)
        if found != known:
            raise UpstreamUnavailable(
                f"store {found[:32]} answers at {self.url}, not {known}: connect again"
            )

    def stream(self, method: str, path: str, body: bytes | None, silence_s: float) -> Stream:
        """Return an answer that goes on and on.

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

    def async_client(self) -> Any:
        """Return the library's async client, for one stream; who asks for it closes it."""
        if self._closed:
            raise UpstreamUnavailable("the connection was closed")
        http = self._http
        transport = http.AsyncHTTPTransport(
            verify=self._verify, trust_env=False, socket_options=KEEP_ALIVE
        )
        return http.AsyncClient(
            headers=self._headers, timeout=self._timeout, transport=transport, trust_env=False
        )

    def drop_idle(self) -> None:
        """Let requests from now on use new connections: one that was used again is dead.

        Who uses an old one goes on with it.
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
                    found.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer


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
            _of_parents.append(self._stack)
            return
        with contextlib.suppress(Exception):  # whatever it says, it is gone
            self._stack.close()

    def close_now(self) -> None:
        """Wake the thread that reads, from another one."""
        found = None if self._network is None else self._network.get_extra_info("socket")
        if found is not None and process_id() == self._process:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


def _take_locks_away(transport: Any) -> None:
    """Let a client of one request at a time have no locks: an exception could leave one locked.

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
        found += piece
        if len(found) > most:
            raise UpstreamUnavailable(f"the server answers with more than {most} bytes")
    return bytes(found)


def version_said(text: str) -> int | None:
    """Return the version that a header says; None: it says none."""
    return int(text) if VERSION.fullmatch(text) else None
