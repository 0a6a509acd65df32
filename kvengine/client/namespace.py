"""A namespace of a database on a server.

Invariants:

* Arguments, results and errors are those of kvengine.Namespace; what they need to be checked with
  is there, so they are checked there.
* A value goes over the network as the bytes that are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from kvengine.cache.single_flight import SingleFlight
from kvengine.client.arguments import (
    described,
    given,
    keys_sent,
    pair_sent,
    streamed,
    type_name,
)
from kvengine.client.transfer import export
from kvengine.entry import GroupSize
from kvengine.errors import InvalidRequest, InvalidType, NamespaceNotFound
from kvengine.namespace.backend import described_as
from kvengine.namespace.layout import data_prefix
from kvengine.namespace.limits import Limits
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.mapping import NamespaceMapping
from kvengine.namespace.reading import Meter, NamespaceReader
from kvengine.namespace.results import (
    BulkReport,
    KeyChange,
    KeyDetails,
    KeyInfo,
    ListResult,
)
from kvengine.namespace.transfer.bulk import Progress
from kvengine.namespace.values import encode_value, parse_json, to_json

if TYPE_CHECKING:
    from kvengine.client.database import RemoteDatabase


class RemoteNamespace(NamespaceMapping):
    """A namespace on a server, with the methods of kvengine.Namespace but import_file().

    Thread-safety: threads may share it.
    """

    def __init__(self, database: RemoteDatabase, namespace_id: str, number: int) -> None:
        self.id, self._number = namespace_id, number
        self._prefix = data_prefix(number)
        self._meter = Meter()  # what an edge counts of its own reads; the server counts its own
        self._database, self._single_flight = database, SingleFlight()

    @property
    def limits(self) -> Limits:
        """What is accepted."""
        return self._database.limits

    @property
    def _known_limits(self) -> Limits | None:
        """What is accepted, if that is known without a question."""
        return self._database._known_limits

    @property
    def title(self) -> str:
        return str(self._call("title"))

    def __repr__(self) -> str:
        return f"<kvengine.RemoteNamespace {self.id}>"

    def _check_usable(self) -> None:
        """Raise if the connection was closed."""
        self._database._check_usable()

    def _call(self, method: str, *args: Any, **named: Any) -> Any:
        try:
            return self._database._call(f"ns/{self.id}/{method}", args, named)
        except NamespaceNotFound:
            self._database._forget(self.id)
            raise

    # -- reads

    @described_as(NamespaceReader.get)
    def get(  # type: ignore[override]  # it has a type
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        found = self._call("get", keys_sent(key), type, **named)
        if type == "stream" and not isinstance(key, str):
            return {name: streamed(value) for name, value in found.items()}
        return streamed(found) if type == "stream" else found

    @described_as(NamespaceReader.get_many)
    def get_many(
        self, keys: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]:
        if isinstance(keys, str):
            raise InvalidType("keys must be a list of str, not one str")
        found: dict[str, Any] = self.get(list(keys), type, cache_ttl=cache_ttl)
        return found

    @described_as(NamespaceReader.get_with_metadata)
    def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        found = self._call("get_with_metadata", keys_sent(key), type, **named)
        if isinstance(key, str):
            return described(found, type)
        return {name: one and described(one, type) for name, one in found.items()}

    @described_as(NamespaceReader.get_metadata)
    def get_metadata(self, key: str) -> KeyDetails | None:
        found = self._call("get_metadata", key)
        return None if found is None else KeyDetails(*found)

    def _newest(self, key: str, type: str) -> Any:
        return self.get_with_metadata(key, type)

    def _ttl(self, key: str) -> float | None:
        found: float | None = self._call("ttl", key)
        return found

    def __contains__(self, key: object) -> bool:
        return self._call("get_metadata", key) is not None

    # -- changes

    def _put(
        self, key: str, value: Any, type: str | None, size: int | None, metadata: Any, **named: Any
    ) -> int:
        data = encode_value(self.limits, value, type, size)
        if metadata is not None:
            metadata = parse_json(to_json("metadata", metadata).decode())
        return int(self._call("put", key, data, **given(metadata=metadata, **named)))

    def _delete(self, key: str, **named: Any) -> int:
        return int(self._call("delete", key, **given(**named)))

    def _touch(self, key: str, **named: Any) -> int:
        return int(self._call("touch", key, **given(**named)))

    def _persist(self, key: str) -> int:
        return int(self._call("persist", key))

    def _increment(self, key: str, by: int, **named: Any) -> int:
        return int(self._call("increment", key, by, **given(**named)))

    def _put_many(self, pairs: Any, progress: Progress | None, **named: Any) -> BulkReport:
        if isinstance(pairs, Mapping):
            pairs = pairs.items()
        elif isinstance(pairs, (str, bytes, bytearray)) or not isinstance(pairs, Iterable):
            raise InvalidType(f"give an iterable of pairs, not {type_name(pairs)}")
        return self._bulk("put_many", map(pair_sent, pairs), progress, given(**named))

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
        report = BulkReport(**self._call(method, found, **named))
        if progress is not None:
            progress(report.successful_key_count, report.successful_key_count)
        return report

    def _delete_prefix(self, prefix: str, dry_run: bool, progress: Progress | None) -> int:
        deleted = int(self._call("delete_prefix", prefix, dry_run=dry_run))
        if progress is not None and not dry_run:
            progress(deleted, deleted)
        return deleted

    # -- lists

    def _list(
        self, prefix: str | None, limit: int | None, cursor: str | None, **named: Any
    ) -> ListResult:
        keys, complete, after, folders = self._call("list", prefix, limit, cursor, **given(**named))
        return ListResult([KeyInfo(*one) for one in keys], complete, after, tuple(folders))

    def _count(self, prefix: str) -> int:
        return int(self._call("count", prefix))

    def _size(self) -> GroupSize:
        return GroupSize(*self._call("size"))

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
        first = self._database.version if after is None else after
        return (
            KeyChange(*item)
            for item in self._database._followed(
                f"ns/{self.id}/watch", {"prefix": prefix}, first, timeout, 0
            )
        )

    def _history(self, key: str) -> Iterator[KeyChange]:
        found = self._database._streamed(f"ns/{self.id}/history", [key], {})
        return (KeyChange(*item) for item in found if item is not None)
