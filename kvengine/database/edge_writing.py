"""What a namespace at a location does not answer itself: writes, lists, the log.

Invariants:

* It goes to the center as it is; what a write changed is out of date here before the caller goes
  on, also if the write failed halfway.
* A list, a count or a size is that of the center, so no read here is fresher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from kvengine.database.edge_reading import EdgeReader
from kvengine.entry import GroupSize
from kvengine.errors import InvalidRequest, KvError, UpstreamUnavailable
from kvengine.namespace.results import (
    BulkReport,
    ExportReport,
    ImportReport,
    KeyChange,
    KeyInfo,
    ListResult,
)
from kvengine.tier.flights import Flights
from kvengine.tier.reading import Ask

if TYPE_CHECKING:
    from kvengine.database.edge import Edge

NOTHING = -1


def gives_version(result: int) -> int:
    """Return the version of a write, which is what it gives."""
    return result


class EdgeWriter(EdgeReader):
    """The part of a namespace at a location that the center answers.

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
        self._flights = Flights()

    @property
    def origin(self) -> Any:
        """The namespace at the upstream.

        Raises:
            StoreClosed: the location was closed; nothing was asked or written.
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

    def put(self, /, key: str, value: Any, **options: Any) -> int:
        """Store a value at the center and return its version; see Namespace.put()."""
        return int(
            self._writing(key, lambda: self.origin.put(key, value, **options), gives_version)
        )

    def delete(self, /, key: str, **options: Any) -> int:
        """Delete a key at the center and return the version; see Namespace.delete()."""
        self._flights.forget(key)
        return int(self._writing(key, lambda: self.origin.delete(key, **options), gives_version))

    def touch(self, /, key: str, **options: Any) -> int:
        """Change when a key ends; see Namespace.touch()."""
        return int(self._writing(key, lambda: self.origin.touch(key, **options), gives_version))

    def increment(self, /, key: str, by: int = 1, **options: Any) -> int:
        """Add to a number and return the sum; see Namespace.increment()."""
        return int(self._writing(key, lambda: self.origin.increment(key, by, **options)))

    def put_many(self, /, pairs: Any, **options: Any) -> BulkReport:
        """Store many values; see Namespace.put_many()."""
        report: BulkReport = self._writing(None, lambda: self.origin.put_many(pairs, **options))
        return report

    def delete_many(self, /, keys: Iterable[str], **options: Any) -> BulkReport:
        """Delete many keys; see Namespace.delete_many()."""
        self._flights.forget_where(lambda key: True)
        report: BulkReport = self._writing(None, lambda: self.origin.delete_many(keys, **options))
        return report

    def delete_prefix(self, /, prefix: str, **options: Any) -> int:
        """Delete all keys that begin with a prefix; see Namespace.delete_prefix()."""
        if not options.get("dry_run"):
            self._flights.forget_where(lambda key: True)
        return int(self._writing(None, lambda: self.origin.delete_prefix(prefix, **options)))

    def import_(self, /, file: Any, **options: Any) -> ImportReport:
        """Write the pairs of a file; see Namespace.import_()."""
        report: ImportReport = self._writing(None, lambda: self.origin.import_(file, **options))
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
            write: does it at the center.
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

    # -- what only the center knows

    def list(self, /, *args: Any, **options: Any) -> ListResult:
        """Return a page of keys, from the center: no read here is fresher; see Namespace.list()."""
        page: ListResult = self.origin.list(*args, **options)
        return page

    def keys(self, /, *args: Any, **options: Any) -> Iterator[KeyInfo]:
        """Return an iterator over keys, from the center; see Namespace.keys()."""
        found: Iterator[KeyInfo] = self.origin.keys(*args, **options)
        return found

    def count(self, prefix: str = "") -> int:
        """Return how many keys begin with a prefix, from the center; see Namespace.count()."""
        return int(self.origin.count(prefix))

    def size(self) -> GroupSize:
        """Return GroupSize(keys, bytes) of what lives, from the center; see Namespace.size()."""
        found: GroupSize = self.origin.size()
        return found

    def history(self, key: str) -> Iterator[KeyChange]:
        """Return an iterator over the changes of a key; see Namespace.history()."""
        found: Iterator[KeyChange] = self.origin.history(key)
        return found

    def export(self, /, file: Any, **options: Any) -> ExportReport:
        """Write all pairs to a file, as the center has them; see Namespace.export()."""
        report: ExportReport = self.origin.export(file, **options)
        return report

    def watch(self, /, *args: Any, **options: Any) -> Iterator[KeyChange]:
        """Return an iterator over changes, from the center; see Namespace.watch()."""
        found: Iterator[KeyChange] = self.origin.watch(*args, **options)
        return found
