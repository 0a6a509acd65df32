"""What an edge leaves to the database behind it: its namespaces, its log, what was used.

Invariants:

* The answer is that of the primary, so nothing here is stale.
* A namespace that was deleted through an edge answers no reads there from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from kvengine.metering.usage import Usage
from kvengine.namespace.results import DatabaseChange, NamespaceInfo


class UpstreamCalls:
    """The methods of a database that an edge passes on to its upstream.

    Thread-safety: threads may share it.
    """

    upstream: Any
    tier: Any
    check_usable: Any
    wrote: Any

    def _asked(self) -> Any:
        self.check_usable()
        return self.upstream

    @property
    def version(self) -> int:
        """The version of the newest change at the primary."""
        return int(self._asked().version)

    def create_namespace(self, title: str) -> NamespaceInfo:
        """Make a namespace and return NamespaceInfo(id, title); see Database."""
        made: NamespaceInfo = self._asked().create_namespace(title)
        return made

    def namespaces(
        self,
        *,
        page: int = 1,
        per_page: int | None = None,
        order: Literal["id", "title"] = "title",
        direction: Literal["asc", "desc"] = "asc",
    ) -> list[NamespaceInfo]:
        """Return NamespaceInfo(id, title) of the namespaces; see Database."""
        found: list[NamespaceInfo] = self._asked().namespaces(
            page=page, per_page=per_page, order=order, direction=direction
        )
        return found

    def rename(self, namespace: str, title: str) -> NamespaceInfo:
        """Give a namespace another title; its id stays.  See Database."""
        renamed: NamespaceInfo = self._asked().rename(namespace, title)
        return renamed

    def delete(self, namespace: str) -> None:
        """Delete a namespace with all its keys; see Database."""
        lost = True  # also if it is interrupted
        try:
            self._asked().delete(namespace)
            lost = False
        finally:
            self.wrote(None, None, lost=lost)
            self.tier.alarms += 1

    def wait_for_removals(self) -> None:
        """Return when no key of a deleted namespace is left, or none can be removed now."""
        self._asked().wait_for_removals()

    def usage(self, namespace: str | None = None, *, month: str | None = None) -> Usage:
        """Return what was used in a month, and what is stored now; see Database."""
        found: Usage = self._asked().usage(namespace, month=month)
        return found

    def sync(self) -> None:
        """Return when everything written so far is on disk at the primary."""
        self._asked().sync()

    def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[DatabaseChange]:
        """Return an iterator over the changes of all namespaces above a version; see Database."""
        found: Iterator[DatabaseChange] = self._asked().tail(after, follow=follow, timeout=timeout)
        return found
