"""Requests to a server: what it answers, or an error of kvengine.

Invariants:

* Whatever goes wrong on the way is UpstreamUnavailable, never an error of the HTTP library.
* No more is read of an answer than its limit allows, and no wait is without an end.
* Another store than the first one that answered is refused.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from kvengine.client.failures import error_of
from kvengine.client.packing import pack, unpack
from kvengine.errors import AccessDenied, InvalidRequest, ProtocolError, UpstreamUnavailable

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 512 << 20
ERROR_BYTES_MAX = 1 << 16
CONNECTIONS_MAX = 100
STORE_HEADER = "kv-store"  # in each answer under /v1: which store it is


def library() -> Any:
    """Return the HTTP library.

    Raises:
        InvalidRequest: it is not installed.
    """
    try:
        import httpx  # noqa: PLC0415 - only those who connect need it
    except ImportError as error:
        raise InvalidRequest(
            "to connect to a server, kvengine needs httpx: pip install 'kvengine[client]'"
        ) from error
    return httpx


class Connection:
    """A server, as far as its requests go.

    Args:
        url: such as "https://kv.example:8787"; a path stands before those of the requests.
        token: what it lets in; None: nothing is sent.
        timeout: seconds that a server may be silent.
        verify: True, or an ssl.SSLContext that says whom to trust.

    Raises:
        InvalidRequest: it is no URL, or httpx is not installed.

    Thread-safety: threads may share it.
    """

    def __init__(self, url: str, token: str | None, timeout: float, verify: Any = True) -> None:
        self._http = library()
        try:
            parts = self._http.URL(url)
        except (TypeError, self._http.InvalidURL) as error:
            raise InvalidRequest(f"{url!r} is no URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo:
            raise InvalidRequest("give a URL such as http://127.0.0.1:8787, without a password")
        self.url, self._timeout = str(parts).rstrip("/"), timeout
        headers = {"accept-encoding": "identity"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        try:
            self._client = self._http.Client(
                headers=headers,
                timeout=timeout,
                verify=verify,
                trust_env=False,
                limits=self._http.Limits(max_connections=CONNECTIONS_MAX),
            )
        except UnicodeEncodeError:
            raise InvalidRequest("a token has only ASCII characters") from None
        self._store: str | None = None
        self._lock = threading.Lock()

    def call(self, path: str, arguments: Any) -> Any:
        """Return what a call at the server gives.

        Raises:
            KvError: the one that it raised there, or UpstreamUnavailable.
        """
        try:
            return unpack(self.post(path, pack(arguments)))
        except ProtocolError as error:
            raise UpstreamUnavailable(f"the server answers something else: {error}") from error

    def post(self, path: str, body: bytes, timeout: float | None = None) -> bytes:
        """Return the body of an answer."""
        with self._answer("POST", path, body, timeout) as response:
            return _all_of(response, ANSWER_BYTES_MAX)

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, timeout: float | None
    ) -> Iterator[Any]:
        try:
            with self._client.stream(
                method, self.url + path, content=body, timeout=timeout or self._timeout
            ) as response:
                self._check(response)
                yield response
        except (self._http.HTTPError, self._http.StreamError, OSError) as error:
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            raise UpstreamUnavailable(f"the server at {self.url} fails: {said}") from error
        except RuntimeError as error:  # the client was closed
            raise UpstreamUnavailable(f"the connection was closed: {error}") from error

    def _check(self, response: Any) -> None:
        if response.status_code == 200:
            self._check_store(response.headers.get(STORE_HEADER))
            return
        body = _all_of(response, ERROR_BYTES_MAX)
        if response.status_code == 401:
            raise AccessDenied(f"the server at {self.url} refuses the token")
        if response.status_code == 429:
            pause = response.headers.get("retry-after", "1")[:20]
            raise UpstreamUnavailable(f"too many requests with this token; try in {pause} s")
        raise error_of(response.status_code, body)

    def _check_store(self, found: str | None) -> None:
        if found is None:
            raise UpstreamUnavailable(f"what answers at {self.url} is no server of kvengine")
        with self._lock:
            if self._store is None:
                self._store = found
        if found != self._store:
            raise UpstreamUnavailable(
                f"store {found[:32]} answers at {self.url}, not {self._store}: connect again"
            )

    def stream(self, method: str, path: str, body: bytes | None, silence_s: float) -> Stream:
        """Return an answer that goes on and on.

        Args:
            method, path, body: of the request.
            silence_s: without a byte for so long it is taken for dead.
        """
        stack = contextlib.ExitStack()
        try:
            return Stream(stack.enter_context(self._answer(method, path, body, silence_s)), stack)
        except BaseException:
            stack.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


class Stream:
    """The body of an answer, piece by piece.

    Thread-safety: for one thread, except close_now().
    """

    def __init__(self, response: Any, stack: contextlib.ExitStack) -> None:
        self._pieces, self._stack = response.iter_raw(), stack
        self._network = response.extensions.get("network_stream")
        self._left = b""

    def read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or b"" at the end.

        Raises:
            OSError: the connection broke, or was silent for too long.
        """
        while not self._left:
            try:
                piece = next(self._pieces, None)
            except (OSError, library().HTTPError, library().StreamError) as error:
                raise OSError(f"{type(error).__name__}: {error}") from error
            if piece is None:
                return b""
            self._left = piece
        found, self._left = self._left[:size], self._left[size:]
        return found

    def close(self) -> None:
        """Give the connection back."""
        with contextlib.suppress(Exception):  # whatever it says, it is gone
            self._stack.close()

    def close_now(self) -> None:
        """Wake the thread that reads, from another one."""
        found = None if self._network is None else self._network.get_extra_info("socket")
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


def _all_of(response: Any, most: int) -> bytes:
    found = bytearray()
    for piece in response.iter_raw():
        found += piece
        if len(found) > most:
            raise UpstreamUnavailable(f"the server answers with more than {most} bytes")
    return bytes(found)
