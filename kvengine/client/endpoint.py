"""Requests to a server and what their answers mean, whichever connection carries them.

Invariants:

* Nothing here waits: Connection (threads) and AsyncConnection (asyncio) send and receive.
* Whatever goes wrong on the way is UpstreamUnavailable, never an error of the HTTP library.
* No more is kept of an answer than its limit allows, and no wait is without an end.
* Another store than the first one that answered is refused.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kvengine.client.authorization import bearer
from kvengine.client.failures import error_of
from kvengine.client.libraries import needed
from kvengine.client.packing import unpack
from kvengine.errors import (
    AccessDenied,
    InvalidRequest,
    KvError,
    ProtocolError,
    RateLimited,
    UpstreamUnavailable,
    pass_on,
)

T = TypeVar("T")
TIMEOUT_S = 10.0
CONNECT_S = 5.0
ANSWER_BYTES_MAX = 512 << 20
ERROR_BYTES_MAX = 1 << 16
URLS_KEPT = 256  # a call has one for each namespace and method; to understand one takes time
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


class Endpoint:
    """A server: where it is, and what it accepts.

    Args:
        url: such as "https://kv.example:8787"; a path is put before that of each request.
        token: what it lets in; None: nothing is sent.
        timeout: seconds that a server may be silent.
        verify: True, or an ssl.SSLContext that says whom to trust.

    Raises:
        InvalidRequest: it is not a valid URL, or a library is not installed.
    """

    def __init__(self, url: str, token: str | None, timeout: float, verify: Any = True) -> None:
        self.http = needed("httpx")
        needed("msgspec")  # to call, later: fail now if it is missing
        try:
            parts = self.http.URL(url)
        except (TypeError, self.http.InvalidURL) as error:
            raise InvalidRequest(f"{url!r} is not a valid URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo:
            found = "one with a user name or a password" if parts.userinfo else repr(url)
            raise InvalidRequest(f"give a URL such as http://127.0.0.1:8787, not {found}")
        self.url, self._timeout = str(parts).rstrip("/"), timeout
        self._headers = {"accept-encoding": "identity"}
        if token is not None:
            self._headers["authorization"] = bearer(token)
        # Made once: to read all certificates takes longer than a request.
        if isinstance(verify, bool):
            is_checked = verify and parts.scheme == "https"
            verify = self.http.create_ssl_context(verify=is_checked, trust_env=False)
        self.transport_options = {
            "verify": verify,
            "trust_env": False,
            "socket_options": KEEP_ALIVE,
        }
        self._url_of = functools.lru_cache(URLS_KEPT)(lambda path: self.http.URL(self.url + path))
        self._store: dict[str, str] = {}  # which one answers, by the name of the header

    # -- what is sent

    def request(self, method: str, path: str, body: bytes | None, timeout: float | None) -> Any:
        """Return a request of the HTTP library.

        Args:
            method, path, body: of the request.
            timeout: seconds that the server may be silent; None: what the endpoint was given.
        """
        limits = self.http.Timeout(timeout or self._timeout)
        limits.connect = min(limits.connect, CONNECT_S)
        return self.http.Request(
            method,
            self._url_of(path),
            headers=self._headers,
            content=body,
            extensions={"timeout": limits.as_dict()},
        )

    # -- what is answered

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Let failures of the network be UpstreamUnavailable."""
        try:
            yield
        except (self.http.HTTPError, self.http.StreamError, OSError) as error:
            pass_on(error)
            raise self.failure(error) from error
        except RuntimeError as error:  # the client, or the event loop, was closed
            pass_on(error)
            raise UpstreamUnavailable(f"the connection was closed: {error}") from error

    def failure(self, error: Exception) -> UpstreamUnavailable:
        """Return what a failure of the network is called here."""
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        return UpstreamUnavailable(f"request to {self.url} failed: {said}")

    def may_be_dead(self, error: UpstreamUnavailable) -> bool:
        """Return whether a request failed because of its connection, and a new one may work."""
        cause, http = error.__cause__, self.http
        return isinstance(cause, http.TransportError) and not isinstance(
            cause, (http.ConnectError, http.ConnectTimeout, http.PoolTimeout)
        )

    def refusal(self, response: Any, body: bytes) -> KvError:
        """Return the error of an answer that is none of those asked for."""
        if response.status_code == 401:
            if "authorization" not in self._headers:
                hint = "give token=, or set KVENGINE_TOKEN"
                return AccessDenied(f"the server at {self.url} needs a token: {hint}")
            return AccessDenied(
                f"the server at {self.url} refuses the token: it is unknown, revoked or expired"
            )
        if response.status_code == 429:
            pause = response.headers.get("retry-after", "")
            seconds = float(pause) if pause.isascii() and pause.isdigit() else 1.0
            return RateLimited(seconds, str(error_of(429, body)))
        return error_of(response.status_code, body)

    def check_store(self, response: Any) -> None:
        """Refuse an answer of another store than the first one that answered.

        Raises:
            UpstreamUnavailable: it is another one, or no server of kvengine.
        """
        found = response.headers.get(STORE_HEADER)
        if found is None:
            raise UpstreamUnavailable(f"{self.url} is not a kvengine server; check the URL")
        known = self._store.setdefault(STORE_HEADER, found)
        if found != known:
            raise UpstreamUnavailable(
                f"store {found[:32]} is now at {self.url} instead of {known}: connect again"
            )


def add_piece(found: bytearray, piece: bytes, most: int) -> None:
    """Add to the body of an answer.

    Raises:
        UpstreamUnavailable: it is longer than `most` bytes.
    """
    found += piece
    if len(found) > most:
        raise UpstreamUnavailable(f"the server's response exceeds {most} bytes")


def answer_of(response: Any, body: bytes) -> tuple[Any, int]:
    """Return what a call gave, and the server's newest version after it (0: not said)."""
    try:
        return unpack(body), version_said(response.headers.get(VERSION_HEADER, "")) or 0
    except ProtocolError as error:
        raise UpstreamUnavailable(f"unexpected response from the server: {error}") from error


def read_as(read: Callable[[Any], T], answer: Any) -> T:
    """Return what `read` makes of an answer.

    Raises:
        UpstreamUnavailable: the answer has another shape, as of another version of the server.
    """
    try:
        return read(answer)
    except KvError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        pass_on(error)
        raise UpstreamUnavailable(f"unexpected response from the server: {error}") from error


def version_said(text: str) -> int | None:
    """Return the version that a header says; None: it says none."""
    return int(text) if VERSION.fullmatch(text) else None
