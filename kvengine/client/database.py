"""A database on a server; kvengine.connect() gives one.

Invariants:

* No request is sent before it is needed; an unreachable server is UpstreamUnavailable.
* Following changes continues after an interruption: each change once, in order, none left out.
* In a forked child it works as before, with connections of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from kvengine.client.arguments import nothing
from kvengine.client.calls import SILENCE_S, DatabaseCalls, Place, T
from kvengine.client.connection import Connection, Stream
from kvengine.client.endpoint import TIMEOUT_S, read_as
from kvengine.client.items import Items
from kvengine.client.log import HttpLog
from kvengine.client.packing import pack
from kvengine.client.upstream import RemoteUpstream
from kvengine.errors import (
    InvalidRequest,
    InvalidType,
    NamespaceNotFound,
    ProtocolError,
    RateLimited,
    UpstreamUnavailable,
    pass_on,
)
from kvengine.file.environment import variable

PIECE_BYTES = 1 << 16


class RemoteDatabase(DatabaseCalls):
    """A database on a server, with the methods of kvengine.Database.

    It lacks snapshot() and consumer(), which need a store, and import_file() of namespaces.

    Args:
        connection: to the server; it is closed with this.
        account: what the server's account must be; None: any.
        timeout: seconds for a request of a location.

    Thread-safety: threads may share it.
    """

    def __init__(self, connection: Connection, account: str | None, timeout: float) -> None:
        super().__init__(account, timeout)
        self._connection = connection

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._connection.url

    def _info(self, at: int) -> Any:
        self._check_usable()
        return self._read_info(self._connection.call("/v1/version", None))[at]

    def _meet(self) -> None:
        """Raise if this can't be used, or the server is not the one that is meant."""
        self._check_usable()
        if self._account is not None and self._limits is None:
            self._info(0)

    def _call(
        self,
        path: str,
        args: list[Any],
        named: dict[str, Any],
        read: Callable[[Any], T],
        then: Callable[[T], object] = nothing,
    ) -> T:
        """Return what `read` makes of the answer to a call; `then` takes it before."""
        self._meet()
        timeout = self._timeout_of(path)
        try:
            found, version = self._connection.call_at(f"/v1/{path}", [args, named], timeout)
        except NamespaceNotFound:
            self._forget(path)
            raise
        self._note_version(version)
        result = read_as(read, found)
        then(result)
        return result

    def log_source(self) -> HttpLog:
        """Return the server's log as a source: a Follower of it is a replica on this machine.

        This sends no request: a replica can be opened, and promoted, while the server is
        unreachable.
        """
        self._check_usable()
        return HttpLog(self._connection)

    def _upstream(self) -> RemoteUpstream:
        """Return the upstream of an edge; the caller closes it."""
        self._meet()
        return RemoteUpstream(self._connection, self._timeout)

    # -- streams

    def _streamed(
        self, path: str, args: list[Any], named: dict[str, Any], read: Callable[[Any], T]
    ) -> Iterator[T]:
        """Return an iterator over what a call gives bit by bit."""
        items = self._items(path, args, named)
        return (read_as(read, item) for item in items if item is not None)

    def _followed(
        self,
        path: str,
        named: dict[str, Any],
        after: int | None,
        timeout: float | None,
        at: int,
        read: Callable[[Any], T],
    ) -> Iterator[T]:
        """Return an iterator over changes that connects again when it breaks."""
        place = Place(self.version if after is None else after, timeout, at)
        first = self._items(path, [], {**named, "after": place.after})  # its errors come at once
        return (read_as(read, item) for item in self._going_on(first, path, named, place))

    def _going_on(
        self, items: Iterator[Any], path: str, named: dict[str, Any], place: Place
    ) -> Iterator[Any]:
        while True:
            try:
                for item in items:
                    if place.passes(item):
                        yield item
                        place.received_at = time.monotonic()
                    elif place.is_over:
                        return
            except (UpstreamUnavailable, RateLimited) as error:
                time.sleep(place.pause_after(error))
            if place.is_over:
                return
            try:
                items = self._items(path, [], {**named, "after": place.after})
            except (UpstreamUnavailable, RateLimited) as error:
                items = iter(())
                time.sleep(place.pause_after(error))

    def _items(self, path: str, args: list[Any], named: dict[str, Any]) -> Iterator[Any]:
        """Return an iterator over the items of one connection; None is a heartbeat."""
        self._meet()
        body = pack([args, named])
        return _taken_from(self._connection.stream("POST", f"/v1/{path}", body, SILENCE_S))

    def close(self) -> None:
        self._closed = True
        self._connection.close()

    def __repr__(self) -> str:
        return f"<kvengine.RemoteDatabase at {self.url!r}>"


def connect(
    url: str,
    *,
    token: str | None = None,
    account: str | None = None,
    timeout: float = TIMEOUT_S,
    verify: Any = True,
) -> RemoteDatabase:
    """Return the database on a server, to be used as if it were local.  This sends no request.

    Args:
        url: such as "https://kv.example:8787".
        token: a token of the server; None: that in KVENGINE_TOKEN.
        account: the expected account of the server; None: that in KVENGINE_ACCOUNT, or any.
        timeout: seconds to wait for a response.
        verify: True, or an ssl.SSLContext that says which servers to trust.

    Raises:
        InvalidType, InvalidRequest: an argument is not valid, or httpx is not installed.
    """
    for name, value in (("url", url), ("token", token), ("account", account)):
        if not isinstance(value, str) and (value is not None or name == "url"):
            raise InvalidType(f"{name} must be a str, not {type(value).__name__}")
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < 1e6:
        raise InvalidRequest(f"timeout must be a number of seconds above 0, not {timeout!r}")
    token = variable("KVENGINE_TOKEN") if token is None else token
    account = variable("KVENGINE_ACCOUNT") if account is None else account
    return RemoteDatabase(Connection(url, token, timeout, verify), account, timeout)


def _taken_from(stream: Stream) -> Iterator[Any]:
    items = Items()
    with closing(stream):
        try:
            while not items.ended:
                piece = stream.read(PIECE_BYTES)
                if not piece:
                    raise OSError("the stream ended too early")
                yield from items.feed(piece)
        except (OSError, ProtocolError) as error:
            pass_on(error)
            raise UpstreamUnavailable(f"the stream was interrupted: {error}") from error
