"""The calls that a namespace at an edge forwards: writes, lists, the log.

Invariants:

* Before a write returns, copies of the keys that it changed are dropped here, even if the write
  failed halfway.
* The primary answers lists, counts and sizes, so no read here is fresher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from kvengine.cache.single_flight import SingleFlight
from kvengine.database.edge_reading import EdgeReader
from kvengine.edge.messages import ReadOptions
from kvengine.entry import GroupSize
from kvengine.errors import InvalidRequest, KvError, UpstreamUnavailable, VersionConflict
from kvengine.namespace.interface.mapping import NamespaceMapping
from kvengine.namespace.interface.results import KeyChange, ListResult

if TYPE_CHECKING:
    from kvengine.database.edge import Edge

NOTHING = -1


def gives_version(result: int) -> int:
    """Return the version of a write, which is what it gives."""
    return result


class EdgeWriter(EdgeReader, NamespaceMapping):  # type: ignore[misc]  # get() has a type
    """The part of a namespace at an edge that the primary answers.

    Thread-safety: threads may share it.
    """

    def __new__(cls, edge: Edge, origin: Any) -> Self:
        """Make the compiled part."""
        options = ReadOptions(edge.settings.cache_ttl_s, 0, edge.settings.stale_if_error_s)
        return super().__new__(
            cls,
            edge._node,
            origin._prefix,
            origin.limits,
            origin._meter,
            options,
            edge._current_store,
        )

    def __init__(self, edge: Edge, origin: Any) -> None:
        self.id: str = origin.id
        self._edge, self._origin = edge, origin
        self._single_flight = SingleFlight()

    @property
    def _upstream(self) -> Any:
        """The namespace at the upstream.

        Raises:
            StoreClosed: the edge was closed; nothing was asked or written.
        """
        self._edge._check_usable()
        return self._origin

    @property
    def title(self) -> str:
        return str(self._upstream.title)

    def _check_usable(self) -> None:
        """Raise if the edge was closed, or what is behind it can't be used."""
        self._upstream._check_usable()

    # -- writing

    def _put(self, key: str, value: Any, **named: Any) -> int:
        return int(
            self._writing(key, lambda: self._upstream.put(key, value, **named), gives_version)
        )

    def _delete(self, key: str, **named: Any) -> int:
        return int(self._writing(key, lambda: self._upstream.delete(key, **named), gives_version))

    def _touch(self, key: str, **named: Any) -> int:
        return int(self._writing(key, lambda: self._upstream.touch(key, **named), gives_version))

    def _persist(self, key: str) -> int:
        return int(self._writing(key, lambda: self._upstream.persist(key), gives_version))

    def _increment(self, key: str, by: int, **named: Any) -> int:
        return int(self._writing(key, lambda: self._upstream.increment(key, by, **named)))

    def _put_many(self, pairs: Any, **named: Any) -> Any:
        return self._writing(None, lambda: self._upstream.put_many(pairs, **named))

    def _delete_many(self, keys: Any, **named: Any) -> Any:
        return self._writing(None, lambda: self._upstream.delete_many(keys, **named))

    def _delete_prefix(self, prefix: str, **named: Any) -> int:
        return int(self._writing(None, lambda: self._upstream.delete_prefix(prefix, **named)))

    def _import_file(self, file: Any, **named: Any) -> Any:
        return self._writing(None, lambda: self._upstream.import_file(file, **named))

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
        self._edge._check_usable()
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
                with suppress(InvalidRequest):  # not a valid key, as the error already says
                    names = None if key is None else [self._name(key)]
                    self._edge._wrote(names, version, lost=lost)
        return result

    # -- what only the primary knows

    def _newest(self, key: str, type: str) -> Any:
        found = self._upstream._newest(key, type)
        self._edge._wrote([self._name(key)], found.version)  # no later read here may be older
        return found

    def _list(
        self, prefix: str | None, limit: int | None, cursor: str | None, **named: Any
    ) -> ListResult:
        page: ListResult = self._upstream.list(prefix, limit, cursor, **named)
        return page

    def _count(self, prefix: str) -> int:
        return int(self._upstream.count(prefix))

    def _size(self) -> GroupSize:
        found: GroupSize = self._upstream.size()
        return found

    def _watch(self, prefix: str, **named: Any) -> Iterator[KeyChange]:
        found: Iterator[KeyChange] = self._upstream.watch(prefix, **named)
        return found

    def _history(self, key: str) -> Iterator[KeyChange]:
        found: Iterator[KeyChange] = self._upstream.history(key)
        return found

    def _export_file(self, file: Any, **named: Any) -> Any:
        return self._upstream.export_file(file, **named)
