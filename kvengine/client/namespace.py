"""A namespace of a database on a server.

Invariants:

* Arguments, results and errors are those of kvengine.Namespace; what they need to be checked with
  is there, so they are checked there.
* A value goes over the network as the bytes that are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from kvengine.client.packing import pack
from kvengine.client.transfer import export
from kvengine.entry import GroupSize
from kvengine.errors import InvalidRequest, InvalidType, NamespaceNotFound
from kvengine.namespace import filling
from kvengine.namespace.layout import data_prefix
from kvengine.namespace.limits import Limits
from kvengine.namespace.pairs import PAIR_FIELDS
from kvengine.namespace.reading import Meter
from kvengine.namespace.results import (
    BulkReport,
    ExportReport,
    KeyChange,
    KeyDetails,
    KeyInfo,
    ListResult,
    ValueWithMetadata,
)
from kvengine.namespace.values import ValueStream, encode_value, parse_json, to_json
from kvengine.tier.flights import Flights

if TYPE_CHECKING:
    from kvengine.client.database import RemoteDatabase


class RemoteNamespace:
    """A namespace on a server, with the methods of kvengine.Namespace but import_().

    Thread-safety: threads may share it.
    """

    def __init__(self, database: RemoteDatabase, namespace_id: str, number: int) -> None:
        self.id, self.number = namespace_id, number
        self.prefix = data_prefix(number)
        self.meter = Meter()  # what a location counts of its own reads; the server counts its own
        self._database, self._flights = database, Flights()

    @property
    def limits(self) -> Limits:
        """What is accepted."""
        return self._database.limits

    @property
    def limits_at_hand(self) -> Limits | None:
        """What is accepted, if that is known without a question."""
        return self._database.limits_at_hand

    @property
    def title(self) -> str:
        """What the namespace is called now."""
        return str(self._call("title"))

    def __repr__(self) -> str:
        return f"<kvengine.RemoteNamespace {self.id}>"

    def check_usable(self) -> None:
        """Raise if the connection was closed."""
        self._database.check_usable()

    def _call(self, method: str, *args: Any, **named: Any) -> Any:
        try:
            return self._database.call(f"ns/{self.id}/{method}", args, named)
        except NamespaceNotFound:
            self._database.forget(self.id)
            raise

    # -- reads

    def get(self, key: Any, type: str = "text", *, cache_ttl: int | None = None) -> Any:
        """Return the value of a key, or None; for a list of keys a dict; see Namespace.get()."""
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        found = self._call("get", _keys(key), type, **named)
        if type == "stream" and not isinstance(key, str):
            return {name: _streamed(value) for name, value in found.items()}
        return _streamed(found) if type == "stream" else found

    def get_many(self, keys: Iterable[str], type: str = "text") -> dict[str, Any]:
        """Return a dict from each key to its value, None for each that is absent."""
        if isinstance(keys, str):
            raise InvalidType("keys must be a list of str, not one str")
        found: dict[str, Any] = self.get(list(keys), type)
        return found

    def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        """Return ValueWithMetadata; for a list a dict; see Namespace.get_with_metadata()."""
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        found = self._call("get_with_metadata", _keys(key), type, **named)
        if isinstance(key, str):
            return _described(found, type)
        return {name: one and _described(one, type) for name, one in found.items()}

    def get_metadata(self, key: str) -> KeyDetails | None:
        """Return KeyDetails(name, expiration, metadata, version, size), or None."""
        found = self._call("get_metadata", key)
        return None if found is None else KeyDetails(*found)

    def __contains__(self, key: str) -> bool:
        return self.get_metadata(key) is not None

    # -- changes

    def put(
        self,
        /,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        size: int | None = None,
        metadata: Any = None,
        **options: Any,
    ) -> int:
        """Store a value and return the version of the change; see Namespace.put()."""
        data = encode_value(self.limits, value, type, size)
        if metadata is not None:
            options["metadata"] = parse_json(to_json("metadata", metadata).decode())
        return int(self._call("put", key, data, **options))

    def delete(self, /, key: str, **options: Any) -> int:
        """Delete a key and return the version; see Namespace.delete()."""
        self._flights.forget(key)
        return int(self._call("delete", key, **options))

    def touch(self, /, key: str, **options: Any) -> int:
        """Give a key another end; see Namespace.touch()."""
        return int(self._call("touch", key, **options))

    def increment(self, /, key: str, by: int = 1, **options: Any) -> int:
        """Add to a number and return the sum; see Namespace.increment()."""
        return int(self._call("increment", key, by, **options))

    def put_many(
        self, /, pairs: Any, *, progress: Callable[[int, int], None] | None = None, **options: Any
    ) -> BulkReport:
        """Store many values; see Namespace.put_many().  `progress` is called once, at the end."""
        if isinstance(pairs, Mapping):
            pairs = pairs.items()
        elif isinstance(pairs, (str, bytes, bytearray)) or not isinstance(pairs, Iterable):
            raise InvalidType(f"give an iterable of pairs, not {_name(pairs)}")
        return self._bulk("put_many", map(_pair, pairs), progress, options)

    def delete_many(
        self,
        /,
        keys: Iterable[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> BulkReport:
        """Delete many keys; see Namespace.delete_many()."""
        if isinstance(keys, (str, bytes, bytearray)) or not isinstance(keys, Iterable):
            raise InvalidType(f"give an iterable of keys, not {_name(keys)}")
        self._flights.forget_where(lambda key: True)
        return self._bulk("delete_many", iter(keys), progress, options)

    def _bulk(
        self, method: str, items: Iterator[Any], progress: Any, options: dict[str, Any]
    ) -> BulkReport:
        found = []
        for number, item in enumerate(items, 1):
            self.limits.check_bulk_count(number)
            found.append(item)
        report = BulkReport(**self._call(method, found, **options))
        if progress is not None:
            progress(report.successful_key_count, report.successful_key_count)
        return report

    def delete_prefix(
        self,
        prefix: str,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Delete all keys that begin with a prefix; see Namespace.delete_prefix()."""
        if not dry_run:
            self._flights.forget_where(lambda key: True)
        deleted = int(self._call("delete_prefix", prefix, dry_run=dry_run))
        if progress is not None and not dry_run:
            progress(deleted, deleted)
        return deleted

    # -- lists

    def list(
        self,
        /,
        prefix: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        **options: Any,
    ) -> ListResult:
        """Return a page of keys; see Namespace.list()."""
        keys, complete, after, folders = self._call("list", prefix, limit, cursor, **options)
        return ListResult([KeyInfo(*one) for one in keys], complete, after, tuple(folders))

    def keys(
        self, prefix: str | None = None, *, reverse: bool = False, start_after: str | None = None
    ) -> Iterator[KeyInfo]:
        """Return an iterator over the keys of all pages; see Namespace.keys()."""
        page = self.list(prefix, reverse=reverse, start_after=start_after)
        return self._pages(page, prefix, reverse)

    def _pages(self, page: ListResult, prefix: str | None, reverse: bool) -> Iterator[KeyInfo]:
        while True:
            yield from page.keys
            if page.list_complete:
                return
            page = self.list(prefix, cursor=page.cursor, reverse=reverse)

    def count(self, prefix: str = "") -> int:
        """Return how many living keys begin with a prefix."""
        return int(self._call("count", prefix))

    def size(self) -> GroupSize:
        """Return GroupSize(keys, bytes) of what lives."""
        return GroupSize(*self._call("size"))

    # -- files

    def export(
        self,
        file: Any,
        *,
        format: str = "ndjson",
        prefix: str = "",
        start_after: str | None = None,
        resume: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ExportReport:
        """Write all pairs to a file on this machine; see Namespace.export().

        They are read one by one, so they are not all as of one moment, and it can't be resumed.
        """
        return export(self, file, format, prefix, start_after, resume, progress)

    def import_(self, file: Any, **options: Any) -> NoReturn:
        """Refuse: an import keeps its place in the store.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest(
            "an import is made where the database is (kvengine import); over the network use "
            "put_many()"
        )

    # -- watching

    def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[KeyChange]:
        """Return an iterator over changes, as they come; see Namespace.watch().

        When the connection breaks it goes on, after a pause, behind the last change it gave.
        """
        first = self._database.version if after is None else after
        return (
            KeyChange(*item)
            for item in self._database.followed(
                f"ns/{self.id}/watch", {"prefix": prefix}, first, timeout, 0
            )
        )

    def history(self, key: str) -> Iterator[KeyChange]:
        """Return an iterator over the changes of a key that the log still has, oldest first."""
        found = self._database.streamed(f"ns/{self.id}/history", [key], {})
        return (KeyChange(*item) for item in found if item is not None)

    # -- filling

    def get_or_set(
        self, key: str, make: Callable[[], Any], *, type: str = "text", **options: Any
    ) -> Any:
        """Return the value of a key, made if there is none; see Namespace.get_or_set()."""
        return filling.get_or_set(self, key, make, type, options)  # type: ignore[arg-type]

    def memoize(
        self,
        *,
        expiration_ttl: float | None = None,
        type: str = "json",
        key: Callable[..., str] | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that keeps what a function returns; see Namespace.memoize()."""
        return filling.memoize(self, type, key, name, {"expiration_ttl": expiration_ttl})  # type: ignore[arg-type]


def _keys(key: Any) -> Any:
    """Return one key as it is, keys as a list."""
    if isinstance(key, (str, bytes, bytearray)) or not hasattr(key, "__iter__"):
        return key
    return list(key)


def _streamed(value: bytes | None) -> ValueStream | None:
    return None if value is None else ValueStream(memoryview(value))


def _described(found: list[Any], type: str) -> ValueWithMetadata:
    one = ValueWithMetadata(*found)
    return one._replace(value=_streamed(one.value)) if type == "stream" else one


def _pair(item: Any) -> Any:
    """Return a pair with a value that can be sent; what else is wrong the server says."""
    if isinstance(item, Mapping):
        return {**item, "value": _value(item["value"])} if "value" in item else dict(item)
    if isinstance(item, (tuple, list)) and len(item) == len(PAIR_FIELDS[:2]):
        return [item[0], _value(item[1])]
    return item


def _value(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        return value
    if hasattr(value, "read"):
        return value.read()
    try:
        return bytes(memoryview(value))
    except TypeError:
        pack(value)  # raises if it can't be sent; else the server refuses it
        return value


def _name(value: Any) -> str:
    return type(value).__name__
