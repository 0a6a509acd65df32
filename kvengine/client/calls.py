"""The calls of a database on a server: what is asked, and what an answer means.

Invariants:

* No method here waits.  Each returns what call(), streamed() or followed() makes of a request: in
  RemoteDatabase the answer, in kvengine.aio an awaitable or async iterator that gives it.
* Following changes continues after an interruption: each change once, in order, none left out.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from decimal import Decimal
from random import SystemRandom
from typing import Any, Literal, TypeVar

from kvengine.client.arguments import nothing
from kvengine.client.base import DatabaseBase
from kvengine.client.namespace import RemoteNamespace
from kvengine.clock import SystemClock
from kvengine.engine.following.waiting import check_timeout
from kvengine.errors import AccessDenied, RateLimited, StoreClosed, UpstreamUnavailable, pass_on
from kvengine.file.system import fork_watch
from kvengine.metering.usage import Counts, DayUsage, NamespaceUsage, Usage
from kvengine.namespace.bounds import Eviction
from kvengine.namespace.interface.results import DatabaseChange, NamespaceInfo
from kvengine.namespace.limits import Limits

T = TypeVar("T")
SILENCE_S = 5.0  # five heartbeats
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0
CHANCE = SystemRandom()
# What works through many keys says nothing until it is done.  The system sees to it that a server
# that is gone is noticed earlier.
LONG_S = 3600.0
LONG_CALLS = frozenset(
    ("put_many", "delete_many", "delete_prefix", "count", "usage", "wait_for_removals", "sync")
)


class DatabaseCalls(DatabaseBase):
    """The methods of kvengine.Database that a server has, over a call() that asks it.

    Args:
        account: what the server's account must be; None: any.
        timeout: seconds that the server may be silent.

    Thread-safety: threads may share it.
    """

    def __init__(self, account: str | None, timeout: float) -> None:
        self._account, self._timeout = account, timeout
        self._limits: Limits | None = None
        self._namespaces: dict[str, RemoteNamespace] = {}
        self._closed = False
        self._clock = SystemClock()
        self._newest = 0  # the highest version of the server in any answer so far
        self._begin()
        fork_watch(self, type(self)._begin)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may call while its thread holds it

    @property
    def limits(self) -> Limits:
        return self._limits or self._info(0)

    @property
    def version(self) -> int:
        return self._info(1)  # type: ignore[no-any-return]

    @property
    def clock(self) -> Any:
        return self._clock

    @property
    def account(self) -> str:
        """The account of the server, requested at each access."""
        return self._info(2)  # type: ignore[no-any-return]

    @property
    def _known_limits(self) -> Limits | None:
        """What its namespaces accept, if that was asked before."""
        return self._limits

    @property
    def closed(self) -> bool:
        return self._closed

    def _check_usable(self) -> None:
        """Raise if it was closed."""
        if self._closed:
            raise StoreClosed("the connection to the database was closed")

    # -- what waits

    @abstractmethod
    def _info(self, at: int) -> Any:
        """Ask for limits, newest version and account of the server; return one of them."""

    @abstractmethod
    def _call(
        self,
        path: str,
        args: list[Any],
        named: dict[str, Any],
        read: Callable[[Any], T],
        then: Callable[[T], object] = nothing,
    ) -> T:
        """Return what `read` makes of the answer to a call; `then` takes it before."""

    @abstractmethod
    def _streamed(
        self, path: str, args: list[Any], named: dict[str, Any], read: Callable[[Any], T]
    ) -> Iterator[T]:
        """Return an iterator over what a call gives bit by bit.

        Raises:
            KvError: the one that the call raised, or UpstreamUnavailable.
        """

    @abstractmethod
    def _followed(
        self,
        path: str,
        named: dict[str, Any],
        after: int | None,
        timeout: float | None,
        at: int,
        read: Callable[[Any], T],
    ) -> Iterator[T]:
        """Return an iterator over changes that connects again when it breaks.

        Args:
            path, named: the call.
            after: begin behind this version; None: the newest one.
            timeout: end when nothing came for so many seconds.
            at: which field of an item is its version.
            read: makes a change of an item.
        """

    # -- what belongs to a request and its answer

    def _read_info(self, found: Any) -> tuple[Limits, int, str]:
        """Return limits, newest version and account of the server."""
        try:
            fields = {**found["limits"], "get_types": tuple(found["limits"]["get_types"])}
            limits = Limits(**fields)
            account, version = str(found["account"]), int(found["version"])
        except (TypeError, KeyError, ValueError) as error:
            pass_on(error)
            raise UpstreamUnavailable(f"unexpected response from the server: {error}") from error
        if self._account not in (None, account):
            raise AccessDenied(f"the server's account is {account}, not {self._account}")
        self._limits = limits
        return limits, version, account

    def _timeout_of(self, path: str) -> float | None:
        is_long = path.rpartition("/")[2] in LONG_CALLS
        return max(self._timeout, LONG_S) if is_long else None

    def _note_version(self, version: int) -> None:
        if version > self._newest:
            with self._lock:
                self._newest = max(self._newest, version)

    # -- namespaces

    def namespace(self, title: str) -> RemoteNamespace:
        return self._call("db/namespace", [title], {}, self._found)

    def namespace_by_id(self, namespace_id: str) -> RemoteNamespace:
        return self._call("db/namespace_by_id", [namespace_id], {}, self._found)

    def _found(self, answer: Any) -> RemoteNamespace:
        namespace_id, number = answer
        with self._lock:
            found = self._namespaces.get(namespace_id)
            if found is None:
                made = RemoteNamespace(self, namespace_id, number)
                found = self._namespaces.setdefault(namespace_id, made)
            return found

    def _forget(self, path: str) -> None:
        """Take note that the namespace of a call is not there any more."""
        kind, _, rest = path.partition("/")
        if kind == "ns":
            with self._lock:
                self._namespaces.pop(rest.partition("/")[0], None)

    def create_namespace(
        self,
        title: str,
        *,
        max_bytes: int | None = None,
        max_keys: int | None = None,
        eviction: Eviction = "lru",
    ) -> NamespaceInfo:
        bounds = {"max_bytes": max_bytes, "max_keys": max_keys, "eviction": eviction}
        return self._call("db/create_namespace", [title], bounds, _info_of)

    def set_bounds(
        self,
        namespace: str,
        *,
        max_bytes: int | None = None,
        max_keys: int | None = None,
        eviction: Eviction = "lru",
    ) -> NamespaceInfo:
        bounds = {"max_bytes": max_bytes, "max_keys": max_keys, "eviction": eviction}
        return self._call("db/set_bounds", [namespace], bounds, _info_of)

    def namespaces(
        self,
        *,
        page: int = 1,
        per_page: int | None = None,
        order: Literal["id", "title"] = "title",
        direction: Literal["asc", "desc"] = "asc",
    ) -> list[NamespaceInfo]:
        named = {"page": page, "per_page": per_page, "order": order, "direction": direction}
        return self._call("db/namespaces", [], named, _infos_of)

    def rename(self, namespace: str, title: str) -> NamespaceInfo:
        return self._call("db/rename", [namespace, title], {}, _info_of)

    def delete(self, namespace: str) -> None:
        return self._call("db/delete", [namespace], {}, nothing)

    def wait_for_removals(self) -> None:
        return self._call("db/wait_for_removals", [], {}, nothing)

    # -- the whole

    def usage(self, namespace: str | None = None, *, month: str | None = None) -> Usage:
        return self._call("db/usage", [namespace], {"month": month}, _usage_of)

    def sync(self) -> None:
        return self._call("db/sync", [], {}, nothing)

    def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[DatabaseChange]:
        read = DatabaseChange._make
        if follow:
            check_timeout(timeout)
            return self._followed("db/tail", {"follow": True}, after, timeout, 1, read)
        return self._streamed("db/tail", [after], {}, read)


def _info_of(answer: Any) -> NamespaceInfo:
    return NamespaceInfo(*answer)


def _infos_of(answer: Any) -> list[NamespaceInfo]:
    return [NamespaceInfo(*one) for one in answer]


def _usage_of(found: dict[str, Any]) -> Usage:
    return Usage(
        **{
            **found,
            "counts": Counts(**found["counts"]),
            "gigabyte_months": Decimal(found["gigabyte_months"]),
            "by_day": [_counted(DayUsage, one) for one in found["by_day"]],
            "by_namespace": [_counted(NamespaceUsage, one) for one in found["by_namespace"]],
        }
    )


def _counted(kind: Any, fields: dict[str, Any]) -> Any:
    return kind(**{**fields, "counts": Counts(**fields["counts"])})


class Place:
    """The position of a follower of changes, over connections that may break."""

    def __init__(self, after: int, timeout: float | None, at: int) -> None:
        self.after, self._timeout, self._at = after, timeout, at
        self._pause, self.received_at = FIRST_PAUSE_S, time.monotonic()

    def passes(self, item: Any) -> bool:
        """Take note of an item; return False for a heartbeat."""
        self._pause = FIRST_PAUSE_S
        if item is not None:
            self.after = item[self._at]
        return item is not None

    @property
    def is_over(self) -> bool:
        """True if nothing came for too long."""
        return self._timeout is not None and time.monotonic() - self.received_at >= self._timeout

    def pause_after(self, error: Exception) -> float:
        """Return how many seconds to wait before the next connection."""
        pause = self._pause * CHANCE.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        return max(pause, error.retry_after) if isinstance(error, RateLimited) else pause
