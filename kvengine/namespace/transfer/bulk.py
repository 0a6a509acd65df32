"""Bulk: many changes of a namespace in one call, together or with a report of what was refused.

Invariants:

* Everything is checked before anything is written: a call that raises because of its arguments has
  written nothing.
* Changes are written in atomic parts, in the given order: if a key occurs twice, the last change
  stays.
* The caller always learns what was written: after the first part, an error is reported, not raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kvengine.errors import InvalidRequest, InvalidType, KvError, NamespaceNotFound
from kvengine.namespace.interface.results import BulkReport, Failure
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.listing import count, text_bytes
from kvengine.namespace.transfer.pairs import encode_pair_value, key_of, located, pair_of
from kvengine.namespace.values import encode_metadata

if TYPE_CHECKING:
    from kvengine.namespace.namespace import Namespace

Progress = Callable[[int, int], None]

PART_CHANGES = 4096  # of a call that need not be atomic; written in a few milliseconds
PART_BYTES = 16 << 20
LOOK_AGAIN_KEYS = 1000  # of a prefix, between two looks at whether the namespace is still there


class Part:
    """Changes that are written together."""

    def __init__(self, namespace: Namespace, durability: Any) -> None:
        self.batch = namespace._store.batch(durability)
        self.names: list[bytes] = []  # of the keys in the store
        self.size = 0  # bytes of keys, values and metadata
        self.writes = self.bytes_in = 0  # for the meter


class Bulk:
    """Changes of a namespace, checked when they are added and written by commit().

    Args:
        namespace: whose keys they are.
        durability: as in put().
        part_changes, part_bytes: the largest size of a part; None: there is only one part.

    Thread-safety: for one thread.
    """

    def __init__(
        self,
        namespace: Namespace,
        *,
        durability: Any = None,
        part_changes: int | None = None,
        part_bytes: int | None = None,
    ) -> None:
        self._namespace, self._durability = namespace, durability
        self._part_changes, self._part_bytes = part_changes, part_bytes
        self._parts = [Part(namespace, durability)]
        self.if_version: int | None = None  # what each key must have
        self.changes = 0
        self.size = 0  # bytes of keys, values and metadata

    def put(self, item: Any) -> None:
        """Add a pair; see Namespace.put_many for its forms.

        Raises:
            InvalidRequest: it can't be written; nothing was added.
        """
        namespace, limits = self._namespace, self._namespace.limits
        pair = pair_of(item)
        name = namespace._name(pair.key)
        now = namespace._store._parts.options.clock.time()
        expires_at = limits._expires_at(now, pair.expiration, pair.expiration_ttl)
        metadata = encode_metadata(limits, pair.metadata)
        data = encode_pair_value(limits, pair)
        value_size = data.nbytes if isinstance(data, memoryview) else len(data)
        size = len(name) - PREFIX_BYTES + value_size + len(metadata)
        namespace._check_fits(name, data, metadata)
        part = self._part_for(size)
        part.batch.put(name, data, metadata=metadata, expires_at=expires_at)
        self._added(part, name, size)
        part.writes += 1
        part.bytes_in += value_size

    def delete(self, key: str) -> None:
        """Add the delete of a key; an absent key is not an error.

        Raises:
            InvalidRequest: it is not a valid key; nothing was added.
        """
        name = self._namespace._name(key)
        size = len(name) - PREFIX_BYTES
        part = self._part_for(size)
        part.batch.delete(name)
        self._added(part, name, size)

    def _part_for(self, size: int) -> Part:
        """Return the part for one more change of so many bytes."""
        part = self._parts[-1]
        if part.names and (
            (self._part_changes is not None and len(part.names) >= self._part_changes)
            or (self._part_bytes is not None and part.size + size > self._part_bytes)
        ):
            part = Part(self._namespace, self._durability)
            self._parts.append(part)
        return part

    def _added(self, part: Part, name: bytes, size: int) -> None:
        part.names.append(name)
        part.size += size
        self.size += size
        self.changes += 1

    def commit(self, progress: Progress | None = None) -> BulkReport:
        """Write all changes, part by part; report what an error kept from being written.

        Raises:
            KvError: the first part was not written.
            NamespaceNotFound: the namespace was deleted meanwhile; nothing was kept.
        """
        done = 0
        for number, part in enumerate(self._parts):
            try:
                self._write(part)
            except NamespaceNotFound:
                raise
            except KvError as error:
                if not done:
                    raise
                lost = [name for part in self._parts[number:] for name in part.names]
                return BulkReport(
                    done, [_failure(name[PREFIX_BYTES:].decode(), error) for name in lost]
                )
            done += len(part.names)
            if progress is not None:
                progress(done, self.changes)
        return BulkReport(done)

    def _write(self, part: Part) -> None:
        namespace = self._namespace
        namespace._check_usable()
        part.batch.commit(if_version=self.if_version)
        namespace._meter.writes += part.writes
        namespace._meter.deletes += len(part.names) - part.writes
        namespace._meter.bytes_in += part.bytes_in
        namespace._stays(*part.names)


# -- what Namespace offers


def put_many(
    namespace: Namespace,
    pairs: Any,
    atomic: bool,
    if_version: int | None,
    progress: Progress | None,
    durability: Any,
) -> BulkReport:
    """Write many pairs; Namespace.put_many has the arguments."""
    if if_version is not None and not atomic:
        raise InvalidRequest("put_many() with if_version needs atomic=True")
    bulk = _bulk(namespace, atomic, durability)
    bulk.if_version = if_version
    if isinstance(pairs, Mapping):
        pairs = pairs.items()
    return _run(namespace, bulk, bulk.put, _each("pairs", pairs), atomic, progress)


def delete_many(
    namespace: Namespace, keys: Any, atomic: bool, progress: Progress | None, durability: Any
) -> BulkReport:
    """Delete many keys; Namespace.delete_many has the arguments."""
    bulk = _bulk(namespace, atomic, durability)
    return _run(namespace, bulk, bulk.delete, _each("keys", keys), atomic, progress)


def delete_prefix(
    namespace: Namespace, prefix: str, dry_run: bool, progress: Progress | None
) -> int:
    """Delete all keys with a prefix; Namespace.delete_prefix has the arguments.

    Each key is a separate write, so other writers get their turn in between.  A key that another
    writer deleted meanwhile is not counted.
    """
    if prefix is None:
        raise InvalidType('prefix must be a str, not NoneType; "" means all keys')
    start = namespace._prefix + text_bytes("prefix", prefix)
    if dry_run:
        return count(namespace, prefix)
    namespace._check_usable()
    store, deleted = namespace._store, 0
    total = 0 if progress is None else sum(1 for _ in store.keys(start))
    for seen, name in enumerate(store.keys(start), 1):
        if store.delete(name, durability="os"):
            deleted += 1
            namespace._meter.deletes += 1
        if seen % LOOK_AGAIN_KEYS == 0:
            namespace._check_usable()
            if progress is not None:
                progress(deleted, max(total, deleted))
    if store._parts.options.durability in ("group", "sync"):
        store.sync()
    if progress is not None:
        progress(deleted, deleted)
    return deleted


# -- one call


def _bulk(namespace: Namespace, atomic: bool, durability: Any) -> Bulk:
    namespace._check_usable()
    if atomic:
        return Bulk(namespace, durability=durability)
    return Bulk(namespace, durability=durability, part_changes=PART_CHANGES, part_bytes=PART_BYTES)


def _each(what: str, given: Any) -> Iterator[Any]:
    if isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Iterable):
        raise InvalidType(f"give an iterable of {what}, not {type(given).__name__}")
    return iter(given)


def _run(
    namespace: Namespace,
    bulk: Bulk,
    add: Callable[[Any], None],
    items: Iterator[Any],
    atomic: bool,
    progress: Progress | None,
) -> BulkReport:
    """Check every item, then write those that are acceptable."""
    refused: list[Failure] = []
    for index, item in enumerate(items):
        namespace.limits._check_bulk_count(index + 1)
        try:
            add(item)
        except InvalidRequest as error:
            if atomic:
                raise located(error, f"index {index}", key_of(item)) from None
            refused.append(_failure(key_of(item), error))
        namespace.limits._check_bulk_size(bulk.size)
    report = bulk.commit(progress)
    return BulkReport(report.successful_key_count, refused + report.unsuccessful_keys)


def _failure(key: str, error: KvError) -> Failure:
    return {"key": key, "error": str(error)}
