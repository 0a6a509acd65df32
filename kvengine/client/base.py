"""The methods that every database has: in a store of this machine, on a server, or at an edge.

Invariants:

* Docstrings are written here once; Database, RemoteDatabase and Edge say how it is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, Self

from kvengine.metering.usage import Usage
from kvengine.namespace.bounds import Eviction
from kvengine.namespace.interface.results import DatabaseChange, NamespaceInfo
from kvengine.namespace.limits import Limits


class DatabaseBase(ABC):
    """What every database offers.

    Thread-safety: threads may share it.
    """

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """The limits of its namespaces; a server is asked once.

        Raises:
            UpstreamUnavailable: the server can't be reached.
            AccessDenied: the server refused the token.
        """

    @property
    @abstractmethod
    def clock(self) -> Any:
        """The local clock by which keys expire."""

    @property
    @abstractmethod
    def version(self) -> int:
        """The version of the newest change; a server is asked each time."""

    # -- namespaces

    @abstractmethod
    def namespace(self, title: str) -> Any:
        """Return the namespace with a title or an id, creating it if it does not exist.

        Raises:
            InvalidType: it is not a str.
            InvalidRequest: the title is not valid.
            NamespaceNotFound: it does not exist, and the database is read-only.
            AccessDenied: it does not exist, and the token may not create it.
        """

    @abstractmethod
    def namespace_by_id(self, namespace_id: str) -> Any:
        """Return the namespace with an id; never create one.

        Raises:
            InvalidType: it is not a str.
            NamespaceNotFound: it does not exist.
        """

    @abstractmethod
    def create_namespace(
        self,
        title: str,
        *,
        max_bytes: int | None = None,
        max_keys: int | None = None,
        eviction: Eviction = "lru",
    ) -> NamespaceInfo:
        """Create a namespace and return its NamespaceInfo.

        Args:
            title: what it is called.
            max_bytes, max_keys, eviction: what it may hold, see set_bounds().

        Raises:
            NamespaceExists: a namespace with this title exists.
            InvalidRequest: it can't be a title, or a bound is not valid.
        """

    @abstractmethod
    def set_bounds(
        self,
        namespace: str,
        *,
        max_bytes: int | None = None,
        max_keys: int | None = None,
        eviction: Eviction = "lru",
    ) -> NamespaceInfo:
        """Bound how much a namespace may hold, as in a cache, and return its NamespaceInfo.

        A write that takes the namespace above a bound deletes other keys until it is within its
        bounds again, and up to 16 more (at most a 32nd of them), so that the next writes need not
        delete any.  While several threads or processes write, the namespace may be above a bound
        by what they are writing at that moment.

        The keys to delete are chosen from a random sample, as in Redis, so they are about those
        that were used least.  Keys that have expired do not count.  Watchers and edges see an
        eviction as a delete.  usage() counts evictions, and a bill does not.

        The bounds are kept in the database.  They replace earlier ones; with neither `max_bytes`
        nor `max_keys` the namespace has none.  Other processes see them in their next call.  A
        write counts as a use for all processes, a read for the process that reads, and a read of a
        copy at an edge for none.

        Args:
            namespace: title or id.
            max_bytes: of keys, values and metadata.  A key that is larger by itself is refused.
            max_keys: how many keys.
            eviction: "lru" deletes the keys that were used least recently; "lfu" those that were
                used least often, and old uses count less.

        Raises:
            NamespaceNotFound: there is none with this title or id.
            InvalidRequest: a bound is not a positive int, or the eviction is unknown.
        """

    @abstractmethod
    def namespaces(
        self,
        *,
        page: int = 1,
        per_page: int | None = None,
        order: Literal["id", "title"] = "title",
        direction: Literal["asc", "desc"] = "asc",
    ) -> list[NamespaceInfo]:
        """Return NamespaceInfo of the namespaces; a page after the last one is empty.

        Args:
            page: the number of the page; the first is 1.
            per_page: how many namespaces a page has; None: all are on one page.
            order: "id" or "title".
            direction: "asc" or "desc".
        """

    @abstractmethod
    def rename(self, namespace: str, title: str) -> NamespaceInfo:
        """Give a namespace another title; its id does not change.

        Raises:
            NamespaceNotFound: no namespace has this title or id.
            NamespaceExists: another namespace has the new title.
        """

    @abstractmethod
    def delete(self, namespace: str) -> None:
        """Delete a namespace and all its keys: at once for readers, in the background on disk.

        If close() interrupts the removal, it continues at the next open; see wait_for_removals().

        Raises:
            NamespaceNotFound: no namespace has this title or id.
        """

    @abstractmethod
    def wait_for_removals(self) -> None:
        """Wait until no key of a deleted namespace is left, or none can be removed now."""

    # -- the whole

    @abstractmethod
    def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[DatabaseChange]:
        """Return an iterator over the changes of all namespaces above a version, in order.

        Changes in deleted namespaces are left out.  With `follow` it reconnects when the connection
        to a server breaks, after increasing pauses.

        Args:
            after: a version; 0: start with the oldest change in the log, for a copy of the
                database.
            follow: wait for more changes; otherwise end with the present ones.
            timeout: with `follow`, end after this many seconds without a change; None: never.

        Raises:
            LogCompacted: deletes after `after` have been compacted away; start over from 0.
        """

    @abstractmethod
    def usage(self, namespace: str | None = None, *, month: str | None = None) -> Usage:
        """Return the usage of a month, and what is stored now.

        All operations of the database's process are included, and those that other processes have
        saved, which they do every few seconds.  Read-only processes save no counts.

        Args:
            namespace: title or id; None: all namespaces, including deleted ones.
            month: such as "2026-11", in UTC; None: this month.

        Raises:
            NamespaceNotFound: there is no such namespace.
            InvalidRequest: the month is not valid.
        """

    @abstractmethod
    def sync(self) -> None:
        """Wait until everything written so far is on disk."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """True after close()."""

    @abstractmethod
    def close(self) -> None:
        """Release all files, connections and threads.

        A store first saves what makes the next open fast.  The database behind an edge or a
        connection stays open; calls that wait for an answer from it raise StoreClosed.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
