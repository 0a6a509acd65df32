"""The methods that every database has: in a store of this machine, on a server, or at an edge.

Invariants:

* Docstrings are written here once; Database, RemoteDatabase and Edge say how it is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, Self

from kvengine.metering.usage import Usage
from kvengine.namespace.limits import Limits
from kvengine.namespace.results import DatabaseChange, NamespaceInfo


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
    def create_namespace(self, title: str) -> NamespaceInfo:
        """Create a namespace and return NamespaceInfo(id, title).

        Raises:
            NamespaceExists: a namespace with this title exists.
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
        """Return NamespaceInfo(id, title) of the namespaces; a page after the last one is empty.

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
