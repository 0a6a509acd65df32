"""A database on a server; kvengine.connect() gives one.

Invariants:

* Nothing is asked before it is needed; what is then not there is UpstreamUnavailable.
* Who follows changes goes on after a break: each change once, in order, none left out.
* In a forked child it works as before, with connections of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from random import SystemRandom
from typing import Any, Literal

from kvengine.client.base import DatabaseBase
from kvengine.client.connection import TIMEOUT_S, Connection, Stream
from kvengine.client.items import Items
from kvengine.client.log import HttpLog
from kvengine.client.namespace import RemoteNamespace
from kvengine.client.packing import pack
from kvengine.client.upstream import RemoteUpstream
from kvengine.clock import SystemClock
from kvengine.errors import (
    AccessDenied,
    InvalidRequest,
    InvalidType,
    ProtocolError,
    RateLimited,
    StoreClosed,
    UpstreamUnavailable,
    pass_on,
)
from kvengine.file.environment import variable
from kvengine.file.system import fork_watch
from kvengine.metering.usage import Counts, DayUsage, NamespaceUsage, Usage
from kvengine.namespace.limits import Limits
from kvengine.namespace.results import DatabaseChange, NamespaceInfo

SILENCE_S = 5.0  # five heartbeats
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0
CHANCE = SystemRandom()
PIECE_BYTES = 1 << 16
# What works through many keys says nothing until it is done.  The system sees to it that a server
# that is gone is noticed earlier.
LONG_S = 3600.0
LONG_CALLS = frozenset(
    ("put_many", "delete_many", "delete_prefix", "count", "usage", "wait_for_removals", "sync")
)


class RemoteDatabase(DatabaseBase):
    """A database on a server, with the methods of kvengine.Database.

    It lacks snapshot() and consumer(), which need a store, and import_file() of namespaces.

    Args:
        connection: to the server; it is closed with this.
        account: what the server's account must be; None: any.
        timeout: seconds for a question of an edge.

    Thread-safety: threads may share it.
    """

    def __init__(self, connection: Connection, account: str | None, timeout: float) -> None:
        self._connection, self._account, self._timeout = connection, account, timeout
        self._limits: Limits | None = None
        self._namespaces: dict[str, RemoteNamespace] = {}
        self._closed = False
        self._clock = SystemClock()
        self._newest = 0  # the highest version of the server that an answer to a call has told
        self._begin()
        fork_watch(self, RemoteDatabase._begin)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may call while its thread holds it

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._connection.url

    @property
    def limits(self) -> Limits:
        return self._limits or self._info()[0]

    @property
    def _known_limits(self) -> Limits | None:
        """What its namespaces accept, if that was asked before."""
        return self._limits

    @property
    def clock(self) -> Any:
        return self._clock

    @property
    def version(self) -> int:
        return self._info()[1]

    @property
    def account(self) -> str:
        """The account of the server, requested at each access."""
        return self._info()[2]

    def _info(self) -> tuple[Limits, int, str]:
        self._check_usable()
        found = self._connection.call("/v1/version", None)
        try:
            fields = {**found["limits"], "get_types": tuple(found["limits"]["get_types"])}
            limits = Limits(**fields)
            account, version = str(found["account"]), int(found["version"])
        except (TypeError, KeyError, ValueError) as error:
            pass_on(error)
            raise UpstreamUnavailable(f"the server says something else: {error}") from error
        if self._account not in (None, account):
            raise AccessDenied(f"the server's account is {account}, not {self._account}")
        self._limits = limits
        return limits, version, account

    def _meet(self) -> None:
        """Raise if this can't be used, or the server is not the one that is meant."""
        self._check_usable()
        if self._account is not None and self._limits is None:
            self._info()

    def _call(self, path: str, args: Any, named: dict[str, Any]) -> Any:
        """Return what a call at the server gives."""
        self._meet()
        is_long = path.rpartition("/")[2] in LONG_CALLS
        timeout = max(self._timeout, LONG_S) if is_long else None
        found, version = self._connection.call_at(f"/v1/{path}", [list(args), named], timeout)
        if version > self._newest:
            with self._lock:
                self._newest = max(self._newest, version)
        return found

    # -- namespaces

    def namespace(self, title: str) -> RemoteNamespace:
        return self._found(self._call("db/namespace", [title], {}))

    def namespace_by_id(self, namespace_id: str) -> RemoteNamespace:
        return self._found(self._call("db/namespace_by_id", [namespace_id], {}))

    def _found(self, answer: Any) -> RemoteNamespace:
        namespace_id, number = answer
        with self._lock:
            found = self._namespaces.get(namespace_id)
            if found is None:
                made = RemoteNamespace(self, namespace_id, number)
                found = self._namespaces.setdefault(namespace_id, made)
            return found

    def _forget(self, namespace_id: str) -> None:
        """Take note that a namespace is not there any more."""
        with self._lock:
            self._namespaces.pop(namespace_id, None)

    def create_namespace(self, title: str) -> NamespaceInfo:
        return NamespaceInfo(*self._call("db/create_namespace", [title], {}))

    def namespaces(
        self,
        *,
        page: int = 1,
        per_page: int | None = None,
        order: Literal["id", "title"] = "title",
        direction: Literal["asc", "desc"] = "asc",
    ) -> list[NamespaceInfo]:
        named = {"page": page, "per_page": per_page, "order": order, "direction": direction}
        return [NamespaceInfo(*one) for one in self._call("db/namespaces", [], named)]

    def rename(self, namespace: str, title: str) -> NamespaceInfo:
        return NamespaceInfo(*self._call("db/rename", [namespace, title], {}))

    def delete(self, namespace: str) -> None:
        self._call("db/delete", [namespace], {})

    def wait_for_removals(self) -> None:
        self._call("db/wait_for_removals", [], {})

    # -- the whole

    def usage(self, namespace: str | None = None, *, month: str | None = None) -> Usage:
        found = self._call("db/usage", [namespace], {"month": month})
        return Usage(
            **{
                **found,
                "counts": Counts(**found["counts"]),
                "gigabyte_months": Decimal(found["gigabyte_months"]),
                "by_day": [_counted(DayUsage, one) for one in found["by_day"]],
                "by_namespace": [_counted(NamespaceUsage, one) for one in found["by_namespace"]],
            }
        )

    def sync(self) -> None:
        self._call("db/sync", [], {})

    def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[DatabaseChange]:
        if not follow:
            items = self._streamed("db/tail", [after], {})
        else:
            items = self._followed("db/tail", {"follow": True}, after, timeout, 1)
        return (DatabaseChange(*item) for item in items if item is not None)

    def log_source(self) -> HttpLog:
        """Return the server's log as a source: a Follower of it is a replica on this machine.

        This sends no request: a replica can be opened, and promoted, while the server is
        unreachable.
        """
        self._check_usable()
        return HttpLog(self._connection)

    def _upstream(self) -> RemoteUpstream:
        """Return what an edge asks and listens to; who asks for it closes it."""
        self._meet()
        return RemoteUpstream(self._connection, self._timeout)

    # -- streams

    def _streamed(self, path: str, args: list[Any], named: dict[str, Any]) -> Iterator[Any]:
        """Return an iterator over what a call gives bit by bit; None is a heartbeat.

        Raises:
            KvError: the one that the call raised, or UpstreamUnavailable.
        """
        self._meet()
        body = pack([args, named])
        return _items(self._connection.stream("POST", f"/v1/{path}", body, SILENCE_S))

    def _followed(
        self, path: str, named: dict[str, Any], after: int, timeout: float | None, at: int
    ) -> Iterator[Any]:
        """Return an iterator over changes that connects again when it breaks.

        Args:
            path, named: the call.
            after: begin behind this version.
            timeout: end when nothing came for so many seconds.
            at: which field of an item is its version.
        """
        first = self._streamed(path, [], {**named, "after": after})  # errors are raised at once
        return self._going_on(first, path, named, Place(after, timeout, at))

    def _going_on(
        self, items: Iterator[Any], path: str, named: dict[str, Any], place: Place
    ) -> Iterator[Any]:
        while True:
            try:
                for item in items:
                    if place.passes(item):
                        yield item
                        place.heard = time.monotonic()
                    elif place.is_over:
                        return
            except (UpstreamUnavailable, RateLimited) as error:
                time.sleep(place.pause_after(error))
            if place.is_over:
                return
            try:
                items = self._streamed(path, [], {**named, "after": place.after})
            except (UpstreamUnavailable, RateLimited) as error:
                items = iter(())
                time.sleep(place.pause_after(error))

    def _check_usable(self) -> None:
        """Raise if it was closed."""
        if self._closed:
            raise StoreClosed("the connection to the database was closed")

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._connection.close()

    def __repr__(self) -> str:
        return f"<kvengine.RemoteDatabase at {self.url!r}>"


class Place:
    """How far somebody has come who follows changes over connections that may break."""

    def __init__(self, after: int, timeout: float | None, at: int) -> None:
        self.after, self._timeout, self._at = after, timeout, at
        self._pause, self.heard = FIRST_PAUSE_S, time.monotonic()

    def passes(self, item: Any) -> bool:
        """Take note of an item; return False for a heartbeat."""
        self._pause = FIRST_PAUSE_S
        if item is not None:
            self.after = item[self._at]
        return item is not None

    @property
    def is_over(self) -> bool:
        """True if nothing came for too long."""
        return self._timeout is not None and time.monotonic() - self.heard >= self._timeout

    def pause_after(self, error: Exception) -> float:
        """Return how many seconds to wait before the next connection."""
        pause = self._pause * CHANCE.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        return max(pause, error.retry_after) if isinstance(error, RateLimited) else pause


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


def _counted(kind: Any, fields: dict[str, Any]) -> Any:
    return kind(**{**fields, "counts": Counts(**fields["counts"])})


def _items(stream: Stream) -> Iterator[Any]:
    items = Items()
    with closing(stream):
        try:
            while not items.ended:
                piece = stream.read(PIECE_BYTES)
                if not piece:
                    raise OSError("the stream ends too early")
                yield from items.feed(piece)
        except (OSError, ProtocolError) as error:
            pass_on(error)
            raise UpstreamUnavailable(f"the stream broke off: {error}") from error
