"""Backend: the primitives on which the methods of a namespace are built.

Three classes implement it: Namespace in a local store, EdgeNamespace at an edge, and
RemoteNamespace on a server.  one_key.py, many_keys.py and mapping.py build the public methods.

Invariants:

* Each method has the arguments and errors of the public method with the same name.
* All arguments are passed, those after a `*` by name, so a forwarding method can use `**named`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from kvengine.cache.single_flight import SingleFlight
from kvengine.entry import GroupSize
from kvengine.namespace.interface.results import (
    BulkReport,
    ExportReport,
    ImportReport,
    KeyChange,
    ListResult,
    ValueWithMetadata,
)
from kvengine.namespace.limits import Limits
from kvengine.namespace.transfer.bulk import Progress

F = TypeVar("F", bound=Callable[..., Any])


def described_as(method: Callable[..., Any]) -> Callable[[F], F]:
    """Return a decorator that gives a method the docstring of one that does the same."""

    def describe(function: F) -> F:
        function.__doc__ = method.__doc__
        return function

    return describe


class Backend(Protocol):
    """The primitives of a namespace.

    Thread-safety: threads may share it.
    """

    id: str
    _single_flight: SingleFlight  # what get_or_set() is making

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """The limits for keys, values and metadata."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The present title of the namespace.

        Raises:
            NamespaceNotFound: it was deleted.
        """

    @abstractmethod
    def _check_usable(self) -> None:
        """Raise if the namespace was deleted, or its database was closed."""

    # -- reads: how old a value may be is a matter of the backend, and so are their arguments

    get: Any
    get_many: Any
    get_metadata: Any
    get_with_metadata: Any

    @abstractmethod
    def _newest(self, key: str, type: str) -> ValueWithMetadata:
        """Return what get_with_metadata() does, but never from a copy."""

    @abstractmethod
    def _ttl(self, key: str) -> float | None: ...
    @abstractmethod
    def __contains__(self, key: object) -> bool: ...

    # -- changes

    @abstractmethod
    def _put(
        self,
        key: str,
        value: Any,
        *,
        type: str | None,
        expiration: int | None,
        expiration_ttl: float | None,
        metadata: Any,
        if_version: int | None,
        size: int | None,
        durability: Any,
    ) -> int: ...
    @abstractmethod
    def _delete(self, key: str, *, if_version: int | None, durability: Any) -> int: ...
    @abstractmethod
    def _touch(
        self,
        key: str,
        *,
        expiration: int | None,
        expiration_ttl: float | None,
        if_version: int | None,
    ) -> int: ...
    @abstractmethod
    def _persist(self, key: str) -> int: ...
    @abstractmethod
    def _increment(
        self, key: str, by: int, *, initial: int, expiration_ttl: float | None, must_exist: bool
    ) -> int: ...
    @abstractmethod
    def _put_many(
        self,
        pairs: Any,
        *,
        atomic: bool,
        if_version: int | None,
        progress: Progress | None,
        durability: Any,
    ) -> BulkReport: ...
    @abstractmethod
    def _delete_many(
        self, keys: Any, *, atomic: bool, progress: Progress | None, durability: Any
    ) -> BulkReport: ...
    @abstractmethod
    def _delete_prefix(self, prefix: str, *, dry_run: bool, progress: Progress | None) -> int: ...
    @abstractmethod
    def _import_file(
        self,
        file: Any,
        *,
        format: str | None,
        atomic: bool,
        resume: bool,
        on_error: str,
        progress: Progress | None,
    ) -> ImportReport: ...

    # -- lists, and the log

    @abstractmethod
    def _list(
        self,
        prefix: str | None,
        limit: int | None,
        cursor: str | None,
        *,
        reverse: bool,
        start_after: str | None,
        delimiter: str | None,
    ) -> ListResult: ...
    @abstractmethod
    def _count(self, prefix: str) -> int: ...
    @abstractmethod
    def _size(self) -> GroupSize: ...
    @abstractmethod
    def _watch(
        self, prefix: str, *, after: int | None, timeout: float | None
    ) -> Iterator[KeyChange]: ...
    @abstractmethod
    def _history(self, key: str) -> Iterator[KeyChange]: ...
    @abstractmethod
    def _export_file(
        self,
        file: Any,
        *,
        format: str,
        prefix: str,
        start_after: str | None,
        resume: bool,
        progress: Progress | None,
    ) -> ExportReport: ...
