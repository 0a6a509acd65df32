"""A namespace of a database on a server.

Invariants:

* Arguments, results and errors are those of kvengine.Namespace; what they need to be checked with
  is there, so they are checked there.
* A value goes over the network as the bytes that are stored.
* No method here waits: of a call of the database come answers, or, in kvengine.aio, awaitables that
  give them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from kvengine.cache.single_flight import SingleFlight
from kvengine.client.arguments import (
    described_read,
    details_read,
    given,
    is_there,
    keys_sent,
    nothing,
    page_read,
    pairs_sent,
    seconds_read,
    type_name,
    values_read,
)
from kvengine.client.transfer import export
from kvengine.engine.following.waiting import check_timeout
from kvengine.entry import GroupSize
from kvengine.errors import InvalidRequest, InvalidType
from kvengine.namespace.interface.backend import described_as
from kvengine.namespace.interface.mapping import NamespaceMapping
from kvengine.namespace.interface.results import (
    BulkReport,
    KeyChange,
    KeyDetails,
    ListResult,
)
from kvengine.namespace.layout import data_prefix
from kvengine.namespace.limits import Limits, list_of_keys
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.reading import Meter, NamespaceReader
from kvengine.namespace.transfer.bulk import Progress
from kvengine.namespace.values import encode_value, parse_json, to_json

T = TypeVar("T")

if TYPE_CHECKING:
    from kvengine.client.calls import DatabaseCalls


class RemoteNamespace(NamespaceMapping):
    """A namespace on a server, with the methods of kvengine.Namespace but import_file().

    Thread-safety: threads may share it.
    """

    def __init__(self, database: DatabaseCalls, namespace_id: str, number: int) -> None:
        self.id, self._number = namespace_id, number
        self._prefix = data_prefix(number)
        self._meter = Meter()  # what an edge counts of its own reads; the server counts its own
        self._database, self._single_flight = database, SingleFlight()

    @property
    def limits(self) -> Limits:
        """The limits for keys, values and metadata."""
        return self._database.limits

    @property
    def _known_limits(self) -> Limits | None:
        """What is accepted, if that is known without a request."""
        return self._database._known_limits

    @property
    def title(self) -> str:
        return self._call("title", [], {}, str)

    def __repr__(self) -> str:
        return f"<kvengine.RemoteNamespace {self.id}>"

    def _check_usable(self) -> None:
        """Raise if the connection was closed."""
        self._database._check_usable()

    def _call(
        self,
        method: str,
        args: list[Any],
        named: dict[str, Any],
        read: Callable[[Any], T],
        then: Callable[[T], object] = nothing,
    ) -> T:
        return self._database._call(f"ns/{self.id}/{method}", args, named, read, then)

    # -- reads

    @described_as(NamespaceReader.get)
    def get(  # type: ignore[override]  # it has a type
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        return self._call("get", [keys_sent(key), type], named, values_read(key, type))

    @described_as(NamespaceReader.get_many)
    def get_many(
        self, keys: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]:
        return self.get(list_of_keys(keys), type, cache_ttl=cache_ttl)  # type: ignore[no-any-return]

    @described_as(NamespaceReader.get_with_metadata)
    def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        read = described_read(key, type)
        return self._call("get_with_metadata", [keys_sent(key), type], named, read)

    @described_as(NamespaceReader.get_metadata)
    def get_metadata(self, key: str) -> KeyDetails | None:
        return self._call("get_metadata", [key], {}, details_read)

    def _newest(self, key: str, type: str) -> Any:
        return self.get_with_metadata(key, type)

    def _ttl(self, key: str) -> float | None:
        return self._call("ttl", [key], {}, seconds_read)

    def __contains__(self, key: object) -> bool:
        return self._call("get_metadata", [key], {}, is_there)

    # -- changes

    def _put(
        self, key: str, value: Any, type: str | None, size: int | None, metadata: Any, **named: Any
    ) -> int:
        data = encode_value(self.limits, value, type, size)
        if metadata is not None:
            metadata = parse_json(to_json("metadata", metadata).decode())
        return self._call("put", [key, data], given(metadata=metadata, **named), int)

    def _delete(self, key: str, **named: Any) -> int:
        return self._call("delete", [key], given(**named), int)

    def _touch(self, key: str, **named: Any) -> int:
        return self._call("touch", [key], given(**named), int)

    def _persist(self, key: str) -> int:
        return self._call("persist", [key], {}, int)

    def _increment(self, key: str, by: int, **named: Any) -> int:
        return self._call("increment", [key, by], given(**named), int)

    def _put_many(self, pairs: Any, progress: Progress | None, **named: Any) -> BulkReport:
        if isinstance(pairs, Mapping):
            pairs = pairs.items()
        elif isinstance(pairs, (str, bytes, bytearray)) or not isinstance(pairs, Iterable):
            raise InvalidType(f"give an iterable of pairs, not {type_name(pairs)}")
        return self._bulk("put_many", pairs_sent(self.limits, pairs), progress, given(**named))

    def _delete_many(self, keys: Any, progress: Progress | None, **named: Any) -> BulkReport:
        if isinstance(keys, (str, bytes, bytearray)) or not isinstance(keys, Iterable):
            raise InvalidType(f"give an iterable of keys, not {type_name(keys)}")
        return self._bulk("delete_many", iter(keys), progress, given(**named))

    def _bulk(
        self, method: str, items: Iterator[Any], progress: Any, named: dict[str, Any]
    ) -> BulkReport:
        found = []
        for number, item in enumerate(items, 1):
            self.limits._check_bulk_count(number)
            found.append(item)

        def tell(report: BulkReport) -> None:
            if progress is not None:
                progress(report.successful_key_count, report.successful_key_count)

        return self._call(method, [found], named, lambda answer: BulkReport(**answer), tell)

    def _delete_prefix(self, prefix: str, dry_run: bool, progress: Progress | None) -> int:

        def tell(deleted: int) -> None:
            if progress is not None and not dry_run:
                progress(deleted, deleted)

        return self._call("delete_prefix", [prefix], {"dry_run": dry_run}, int, tell)

    # -- lists

    def _list(
        self, prefix: str | None, limit: int | None, cursor: str | None, **named: Any
    ) -> ListResult:
        return self._call("list", [prefix, limit, cursor], given(**named), page_read)

    def _count(self, prefix: str) -> int:
        return self._call("count", [prefix], {}, int)

    def _size(self) -> GroupSize:
        return self._call("size", [], {}, GroupSize._make)

    # -- files

    _export_file = export

    def _import_file(self, file: Any, **named: Any) -> NoReturn:
        raise InvalidRequest(
            "an import is made where the database is (kvengine import); over the network use "
            "put_many()"
        )

    # -- watching

    def _watch(self, prefix: str, after: int | None, timeout: float | None) -> Iterator[KeyChange]:
        text_bytes("prefix", prefix)
        check_timeout(timeout)
        path, read = f"ns/{self.id}/watch", KeyChange._make
        return self._database._followed(path, {"prefix": prefix}, after, timeout, 0, read)

    def _history(self, key: str) -> Iterator[KeyChange]:
        return self._database._streamed(f"ns/{self.id}/history", [key], {}, KeyChange._make)
