"""What a namespace at an edge does not answer itself: writes, lists, the log.

Invariants:

* It goes to the primary as it is; what a write changed is out of date here before the caller goes
  on, also if the write failed halfway.
* A list, a count or a size is that of the primary, so no read here is fresher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Self

from kvengine.cache.single_flight import SingleFlight
from kvengine.database.edge_reading import EdgeReader
from kvengine.edge.reading import Ask
from kvengine.entry import GroupSize
from kvengine.errors import (
    InvalidRequest,
    KeyNotFound,
    KvError,
    UpstreamUnavailable,
    VersionConflict,
)
from kvengine.namespace.mapping import ABSENT, NamespaceMapping
from kvengine.namespace.results import (
    BulkReport,
    ExportReport,
    ImportReport,
    KeyChange,
    KeyInfo,
    ListResult,
)
from kvengine.namespace.transfer.bulk import Progress

if TYPE_CHECKING:
    from kvengine.database.edge import Edge

NOTHING = -1
ABSENT_HERE: Any = object()


def gives_version(result: int) -> int:
    """Return the version of a write, which is what it gives."""
    return result


class EdgeWriter(EdgeReader, NamespaceMapping):  # type: ignore[misc]  # get() has a type
    """The part of a namespace at an edge that the primary answers.

    Thread-safety: threads may share it.
    """

    def __new__(cls, edge: Edge, origin: Any) -> Self:
        """Make the compiled part."""
        ask = Ask(edge.settings.cache_ttl_s, 0, edge.settings.stale_if_error_s)
        return super().__new__(
            cls, edge.tier, origin.prefix, origin.limits, origin.meter, ask, edge.current_store
        )

    def __init__(self, edge: Edge, origin: Any) -> None:
        self.id: str = origin.id
        self._edge, self._origin = edge, origin
        self._single_flight = SingleFlight()

    @property
    def origin(self) -> Any:
        """The namespace at the upstream.

        Raises:
            StoreClosed: the edge was closed; nothing was asked or written.
        """
        self._edge.check_usable()
        return self._origin

    @property
    def title(self) -> str:
        """What the namespace is called now.

        Raises:
            NamespaceNotFound: it was deleted.
        """
        return str(self.origin.title)

    # -- writing

    def put(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
        if_version: int | None = None,
        size: int | None = None,
        durability: Any = None,
    ) -> int:
        """Store a value at the primary and return its version; see Namespace.put()."""

        def write() -> int:
            return int(
                self.origin.put(
                    key,
                    value,
                    type=type,
                    expiration=expiration,
                    expiration_ttl=expiration_ttl,
                    metadata=metadata,
                    if_version=if_version,
                    size=size,
                    durability=durability,
                )
            )

        return int(self._writing(key, write, gives_version))

    def delete(self, key: str, *, if_version: int | None = None, durability: Any = None) -> int:
        """Delete a key at the primary and return the version; see Namespace.delete()."""
        self._single_flight.forget(key)
        return int(
            self._writing(
                key,
                lambda: self.origin.delete(key, if_version=if_version, durability=durability),
                gives_version,
            )
        )

    def touch(
        self,
        key: str,
        *,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        if_version: int | None = None,
    ) -> int:
        """Change when a key expires; see Namespace.touch()."""

        def write() -> int:
            return int(
                self.origin.touch(
                    key,
                    expiration=expiration,
                    expiration_ttl=expiration_ttl,
                    if_version=if_version,
                )
            )

        return int(self._writing(key, write, gives_version))

    def persist(self, key: str) -> int:
        """Let a key never expire; see Namespace.persist()."""
        return int(self._writing(key, lambda: self.origin.persist(key), gives_version))

    def pop(self, key: str, default: Any = ABSENT, *, type: str = "text") -> Any:
        """Delete a key at the primary and return the value that it had; see Namespace.pop()."""
        self._single_flight.forget(key)
        found = self._writing(key, lambda: self.origin.pop(key, ABSENT_HERE, type=type))
        if found is not ABSENT_HERE:
            return found
        if default is ABSENT:
            raise KeyNotFound(key)
        return default

    def increment(
        self,
        key: str,
        by: int = 1,
        *,
        initial: int = 0,
        expiration_ttl: float | None = None,
        must_exist: bool = False,
    ) -> int:
        """Add to a number and return the sum; see Namespace.increment()."""

        def write() -> int:
            return int(
                self.origin.increment(
                    key,
                    by,
                    initial=initial,
                    expiration_ttl=expiration_ttl,
                    must_exist=must_exist,
                )
            )

        return int(self._writing(key, write))

    def put_many(
        self,
        pairs: Mapping[str, Any] | Iterable[tuple[str, Any] | Mapping[str, Any]],
        *,
        atomic: bool = True,
        if_version: int | None = None,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Store many values; see Namespace.put_many()."""
        report: BulkReport = self._writing(
            None,
            lambda: self.origin.put_many(
                pairs,
                atomic=atomic,
                if_version=if_version,
                progress=progress,
                durability=durability,
            ),
        )
        return report

    def delete_many(
        self,
        keys: Iterable[str],
        *,
        atomic: bool = True,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Delete many keys; see Namespace.delete_many()."""
        self._single_flight.forget_where(lambda key: True)
        report: BulkReport = self._writing(
            None,
            lambda: self.origin.delete_many(
                keys, atomic=atomic, progress=progress, durability=durability
            ),
        )
        return report

    def delete_prefix(
        self, prefix: str, *, dry_run: bool = False, progress: Progress | None = None
    ) -> int:
        """Delete all keys that begin with a prefix; see Namespace.delete_prefix()."""
        if not dry_run:
            self._single_flight.forget_where(lambda key: True)
        return int(
            self._writing(
                None,
                lambda: self.origin.delete_prefix(prefix, dry_run=dry_run, progress=progress),
            )
        )

    def import_file(
        self,
        file: Any,
        *,
        format: Literal["ndjson", "wrangler"] | None = None,
        atomic: bool = False,
        resume: bool = False,
        on_error: Literal["stop", "skip"] = "stop",
        progress: Progress | None = None,
    ) -> ImportReport:
        """Write the pairs of a file; see Namespace.import_file()."""
        report: ImportReport = self._writing(
            None,
            lambda: self.origin.import_file(
                file,
                format=format,
                atomic=atomic,
                resume=resume,
                on_error=on_error,
                progress=progress,
            ),
        )
        return report

    def _writing(
        self,
        key: str | None,
        write: Callable[[], Any],
        version_of: Callable[[Any], int] | None = None,
    ) -> Any:
        """Return what a write gives; what it changed, or may have, is out of date here by then.

        Args:
            key: which is written; None: many.
            write: does it at the primary.
            version_of: gives the version in what it returns; None: it is not in there.
        """
        self._edge.check_usable()
        version: int | None = None
        lost = True  # also if it is interrupted
        try:
            result = write()
            lost, version = False, version_of(result) if version_of else None
        except UpstreamUnavailable:
            raise
        except VersionConflict as conflict:
            lost, version = False, conflict.found or None  # so what is held may be out of date
            raise
        except KvError:
            if key is not None:
                version = NOTHING  # of many some may be written
            raise
        finally:
            if version != NOTHING:
                with suppress(InvalidRequest):  # it is no key: what is raised already says so
                    names = None if key is None else [self.name(key)]
                    self._edge.wrote(names, version, lost=lost)
        return result

    # -- what only the primary knows

    def list(
        self,
        prefix: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        *,
        reverse: bool = False,
        start_after: str | None = None,
        delimiter: str | None = None,
    ) -> ListResult:
        """Return a page of keys, from the primary; see Namespace.list()."""
        page: ListResult = self.origin.list(
            prefix,
            limit,
            cursor,
            reverse=reverse,
            start_after=start_after,
            delimiter=delimiter,
        )
        return page

    def _list_all(self, prefix: str, reverse: bool, start_after: str | None) -> Iterator[KeyInfo]:
        found: Iterator[KeyInfo] = self.origin._list_all(prefix, reverse, start_after)
        return found

    def count(self, prefix: str = "") -> int:
        """Return how many keys begin with a prefix, from the primary; see Namespace.count()."""
        return int(self.origin.count(prefix))

    def size(self) -> GroupSize:
        """Return GroupSize(keys, bytes) of what lives, from the primary; see Namespace.size()."""
        found: GroupSize = self.origin.size()
        return found

    def history(self, key: str) -> Iterator[KeyChange]:
        """Return an iterator over the changes of a key; see Namespace.history()."""
        found: Iterator[KeyChange] = self.origin.history(key)
        return found

    def export_file(
        self,
        file: Any,
        *,
        format: Literal["ndjson", "wrangler"] = "ndjson",
        prefix: str = "",
        start_after: str | None = None,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write all pairs to a file, as the primary has them; see Namespace.export_file()."""
        report: ExportReport = self.origin.export_file(
            file,
            format=format,
            prefix=prefix,
            start_after=start_after,
            resume=resume,
            progress=progress,
        )
        return report

    def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[KeyChange]:
        """Return an iterator over changes, from the primary; see Namespace.watch()."""
        found: Iterator[KeyChange] = self.origin.watch(prefix, after=after, timeout=timeout)
        return found
