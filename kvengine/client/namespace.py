"""A namespace of a database on a server.

Invariants:

* Arguments, results and errors are those of kvengine.Namespace; what they need to be checked with
  is there, so they are checked there.
* A value goes over the network as the bytes that are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn

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
from kvengine.namespace import filling
from kvengine.namespace.layout import data_prefix
from kvengine.namespace.limits import Limits
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.mapping import NamespaceMapping
from kvengine.namespace.reading import Meter
from kvengine.namespace.results import (
    BulkReport,
    ExportReport,
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
        self.id, self.number = namespace_id, number
        self.prefix = data_prefix(number)
        self.meter = Meter()  # what an edge counts of its own reads; the server counts its own
        self._database, self._single_flight = database, SingleFlight()

    @property
    def limits(self) -> Limits:
        """What is accepted."""
        return self._database.limits

    @property
    def known_limits(self) -> Limits | None:
        """What is accepted, if that is known without a question."""
        return self._database.known_limits

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

    def get(  # type: ignore[override]  # it has a type
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        """Return the value of a key, or None; for a list of keys a dict; see Namespace.get()."""
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        found = self._call("get", keys_sent(key), type, **named)
        if type == "stream" and not isinstance(key, str):
            return {name: streamed(value) for name, value in found.items()}
        return streamed(found) if type == "stream" else found

    def get_many(
        self, keys: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]:
        """Return a dict from each key to its value, None for each that is absent."""
        if isinstance(keys, str):
            raise InvalidType("keys must be a list of str, not one str")
        found: dict[str, Any] = self.get(list(keys), type, cache_ttl=cache_ttl)
        return found

    def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        """Return ValueWithMetadata; for a list a dict; see Namespace.get_with_metadata()."""
        named = {} if cache_ttl is None else {"cache_ttl": cache_ttl}
        found = self._call("get_with_metadata", keys_sent(key), type, **named)
        if isinstance(key, str):
            return described(found, type)
        return {name: one and described(one, type) for name, one in found.items()}

    def get_metadata(self, key: str) -> KeyDetails | None:
        """Return KeyDetails(name, expiration, metadata, version, size), or None."""
        found = self._call("get_metadata", key)
        return None if found is None else KeyDetails(*found)

    def ttl(self, key: str) -> float | None:
        """Return the seconds until a key expires, by the server's clock; see Namespace.ttl()."""
        found: float | None = self._call("ttl", key)
        return found

    def __contains__(self, key: object) -> bool:
        return self._call("get_metadata", key) is not None

    # -- changes

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
        """Store a value and return the version of the change; see Namespace.put()."""
        data = encode_value(self.limits, value, type, size)
        if metadata is not None:
            metadata = parse_json(to_json("metadata", metadata).decode())
        named = given(
            expiration=expiration,
            expiration_ttl=expiration_ttl,
            metadata=metadata,
            if_version=if_version,
            durability=durability,
        )
        return int(self._call("put", key, data, **named))

    def delete(self, key: str, *, if_version: int | None = None, durability: Any = None) -> int:
        """Delete a key and return the version; see Namespace.delete()."""
        self._single_flight.forget(key)
        named = given(if_version=if_version, durability=durability)
        return int(self._call("delete", key, **named))

    def touch(
        self,
        key: str,
        *,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        if_version: int | None = None,
    ) -> int:
        """Change when a key expires; see Namespace.touch()."""
        named = given(expiration=expiration, expiration_ttl=expiration_ttl, if_version=if_version)
        return int(self._call("touch", key, **named))

    def persist(self, key: str) -> int:
        """Let a key never expire; see Namespace.persist()."""
        return int(self._call("persist", key))

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
        named = given(initial=initial, expiration_ttl=expiration_ttl, must_exist=must_exist)
        return int(self._call("increment", key, by, **named))

    def put_many(
        self,
        pairs: Mapping[str, Any] | Iterable[tuple[str, Any] | Mapping[str, Any]],
        *,
        atomic: bool = True,
        if_version: int | None = None,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Store many values; see Namespace.put_many().  `progress` is called once, at the end."""
        if isinstance(pairs, Mapping):
            pairs = pairs.items()
        elif isinstance(pairs, (str, bytes, bytearray)) or not isinstance(pairs, Iterable):
            raise InvalidType(f"give an iterable of pairs, not {type_name(pairs)}")
        named = given(atomic=atomic, if_version=if_version, durability=durability)
        return self._bulk("put_many", map(pair_sent, pairs), progress, named)

    def delete_many(
        self,
        keys: Iterable[str],
        *,
        atomic: bool = True,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Delete many keys; see Namespace.delete_many()."""
        if isinstance(keys, (str, bytes, bytearray)) or not isinstance(keys, Iterable):
            raise InvalidType(f"give an iterable of keys, not {type_name(keys)}")
        self._single_flight.forget_where(lambda key: True)
        named = given(atomic=atomic, durability=durability)
        return self._bulk("delete_many", iter(keys), progress, named)

    def _bulk(
        self, method: str, items: Iterator[Any], progress: Any, named: dict[str, Any]
    ) -> BulkReport:
        found = []
        for number, item in enumerate(items, 1):
            self.limits.check_bulk_count(number)
            found.append(item)
        report = BulkReport(**self._call(method, found, **named))
        if progress is not None:
            progress(report.successful_key_count, report.successful_key_count)
        return report

    def delete_prefix(
        self,
        prefix: str,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Delete all keys that begin with a prefix; see Namespace.delete_prefix()."""
        if not dry_run:
            self._single_flight.forget_where(lambda key: True)
        deleted = int(self._call("delete_prefix", prefix, dry_run=dry_run))
        if progress is not None and not dry_run:
            progress(deleted, deleted)
        return deleted

    # -- lists

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
        """Return a page of keys; see Namespace.list()."""
        named = given(reverse=reverse, start_after=start_after, delimiter=delimiter)
        keys, complete, after, folders = self._call("list", prefix, limit, cursor, **named)
        return ListResult([KeyInfo(*one) for one in keys], complete, after, tuple(folders))

    def _list_all(self, prefix: str, reverse: bool, start_after: str | None) -> Iterator[KeyInfo]:
        text_bytes("prefix", prefix)
        text_bytes("start_after", start_after)
        return self._pages(prefix, reverse, start_after)

    def _pages(self, prefix: str, reverse: bool, start_after: str | None) -> Iterator[KeyInfo]:
        page = self.list(prefix, reverse=reverse, start_after=start_after)
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
        """Write all pairs to a file on this machine; see Namespace.export_file().

        They are read one by one, so they are not all as of one moment, and it can't be resumed.
        """
        return export(self, file, format, prefix, start_after, resume, progress)

    def import_file(
        self,
        file: Any,
        *,
        format: Literal["ndjson", "wrangler"] | None = None,
        atomic: bool = False,
        resume: bool = False,
        on_error: Literal["stop", "skip"] = "stop",
        progress: Progress | None = None,
    ) -> NoReturn:
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
        text_bytes("prefix", prefix)
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
        self,
        key: str,
        make: Callable[[], Any],
        *,
        type: str = "text",
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
    ) -> Any:
        """Return the value of a key, made if there is none; see Namespace.get_or_set()."""
        options = {
            "expiration": expiration,
            "expiration_ttl": expiration_ttl,
            "metadata": metadata,
        }
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
