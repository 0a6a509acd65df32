"""Database: one store, many namespaces.  It combines the parts.

Invariants:

* Each namespace has one Namespace object per database, so that its usage is counted in one place.
* A deleted namespace is unreachable when delete() returns; its space is freed in the background.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal, Self

from kvengine.client.base import DatabaseBase
from kvengine.clock import SYSTEM_CLOCK, Clock
from kvengine.database.catalog import Catalog
from kvengine.database.catalog_rows import Row, info_of, page_of
from kvengine.database.edges import begin_primary
from kvengine.database.removal import Remover
from kvengine.edge.primary import Primary
from kvengine.edge.timers import Timers
from kvengine.engine.following.consumer import Consumer, ConsumerInfo
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.store import Store
from kvengine.entry import Change, GroupSize
from kvengine.errors import InvalidType, NamespaceNotFound, StoreBusy
from kvengine.file.system import fork_watch
from kvengine.metering import report
from kvengine.metering.ledger import INTERVAL_S, Ledger, RowKeys
from kvengine.metering.report import Named
from kvengine.metering.usage import Usage
from kvengine.namespace.bounds import Eviction, bounds_of
from kvengine.namespace.interface.results import DatabaseChange, NamespaceInfo
from kvengine.namespace.layout import (
    DATA,
    GROUPS,
    USAGE,
    data_number,
    data_prefix,
    usage_key,
    usage_parts,
)
from kvengine.namespace.limits import Limits, limits_of
from kvengine.namespace.listing import size_of
from kvengine.namespace.namespace import Namespace
from kvengine.namespace.reading import Meter
from kvengine.namespace.watching import key_change
from kvengine.options import Durability, Options, named


class Database(DatabaseBase):
    """Namespaces in a store; kvengine.open() returns one.

    Args:
        store: an open store; the database closes it.
        limits: "relaxed" (the default), "strict" (as Cloudflare), or a Limits.
        usage_interval_s: seconds between saves of the usage counts; a process that dies may lose
            this much of them.

    Raises:
        InvalidType: `store` is not a Store.
        NotAStore: the store has keys that do not belong to a database.

    Thread-safety: threads may share it.
    """

    def __init__(
        self, store: Store, *, limits: Any = "relaxed", usage_interval_s: float = INTERVAL_S
    ) -> None:
        if not isinstance(store, Store):
            kind = type(store).__name__
            raise InvalidType(f"expected a Store, not {kind}; open a folder with open(path)")
        self._limits = limits_of(limits)
        self.store = store
        self._catalog = Catalog(store)
        self._lock = OwnedLock()
        self._namespaces: dict[int, Namespace] = {}
        self._meters: dict[int, Meter] = {}
        self._primary: Primary | None = None
        self._timers: Timers | None = None
        self._remover = Remover(store, self._catalog)
        self._ledger = Ledger(
            store,
            RowKeys(USAGE, usage_key, usage_parts),
            self._meters,
            lambda number: size_of(store, data_prefix(number)),
            usage_interval_s,
        )
        fork_watch(self, Database._after_fork)
        if not store._parts.is_read_only:
            self._catalog.on_removal = self._remover.weakly()
            self._remover.begin()

    def _after_fork(self) -> None:
        """In a child process: no thread holds the lock here; each part resets itself."""
        self._lock.after_fork_in_child()
        self._forget_primary()  # its threads are not there either

    @classmethod
    def in_memory(
        cls,
        *,
        limits: Any = "relaxed",
        usage_interval_s: float = INTERVAL_S,
        durability: Durability = "os",
        sync_interval_s: float = 0.05,
        read_only: bool = False,
        exclusive: bool = False,
        create: bool = True,
        allow_network_filesystem: bool = False,
        rebuild: bool = False,
        log_writes: Literal["auto", "pwrite"] = "auto",
        segment_bytes: int = 64 << 20,
        compaction: Literal["auto", "manual"] = "auto",
        space_target: float = 1.3,
        compaction_bytes_per_s: int = 256 << 20,
        checkpoint_records: int = 1_000_000,
        key_buffer_entries: int = 65_536,
        verify: Literal["auto", "always"] = "auto",
        clock: Clock = SYSTEM_CLOCK,
        retention_s: float = 7 * 86400.0,
    ) -> Self:
        """Return a new database that leaves nothing on disk; for tests."""
        store = Store.in_memory(groups=GROUPS, **named(Options, locals()))
        return cls(store, limits=limits, usage_interval_s=usage_interval_s)

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def clock(self) -> Any:
        return self.store._parts.options.clock

    @property
    def version(self) -> int:
        return self.store.version

    # -- namespaces

    def namespace(self, title: str) -> Namespace:
        while True:
            try:
                row = self._catalog.find(title)
            except NamespaceNotFound:
                if self.store._parts.is_read_only:
                    raise
                self.limits._check_title(title)
                row = self._catalog.find_or_create(title, self.clock.time())
            found = self._namespace(row)
            if found is not None:
                return found

    def namespace_by_id(self, namespace_id: str) -> Namespace:
        while True:
            found = self._namespace(self._catalog.by_id(namespace_id))
            if found is not None:
                return found

    def _namespace(self, row: Row) -> Namespace | None:
        """Return the object of a namespace, or None if it was deleted meanwhile."""
        if self._catalog.is_changed_here():  # who has the lock may wait for that very change
            found = self._made(row)
        else:
            with self._lock.held():
                found = self._made(row)
        self._ledger.begin()
        return found

    def _made(self, row: Row) -> Namespace | None:
        found = self._namespaces.get(row.number)
        if found is None and self._catalog.is_living(row):
            meter = self._meters.setdefault(row.number, Meter())
            found = Namespace(self.store, data_prefix(row.number), self.limits, meter, id=row.id)
            # Not a method of the database: a cycle would keep it open until it is collected.
            found._bounds_of = self._catalog.bounds_of
            found._bound_by(self._catalog.bounds_of(row.id))
            found._title_of = self._ledger.begins_with(self._catalog.title_by_id)
            found = self._namespaces.setdefault(row.number, found)  # a handler's, perhaps
        return found

    def create_namespace(
        self,
        title: str,
        *,
        max_bytes: int | None = None,
        max_keys: int | None = None,
        eviction: Eviction = "lru",
    ) -> NamespaceInfo:
        self.store._parts.check_usable()
        bounds = bounds_of(max_bytes, max_keys, eviction)
        row = self._catalog.create(self.limits._check_title(title), self.clock.time(), bounds)
        return info_of(row)

    def set_bounds(
        self,
        namespace: str,
        *,
        max_bytes: int | None = None,
        max_keys: int | None = None,
        eviction: Eviction = "lru",
    ) -> NamespaceInfo:
        bounds = bounds_of(max_bytes, max_keys, eviction)
        row = self._catalog.set_bounds(self._catalog.find(namespace), bounds)
        held = self._namespace(row)
        if held is not None:
            held._bound_by(self._catalog.bounds_of(row.id))
            if held._evictor is not None:
                held._evictor.evict()
        return info_of(row)

    def namespaces(
        self,
        *,
        page: int = 1,
        per_page: int | None = None,
        order: Literal["id", "title"] = "title",
        direction: Literal["asc", "desc"] = "asc",
    ) -> list[NamespaceInfo]:
        return page_of(self._catalog.living(), page, per_page, order, direction)

    def rename(self, namespace: str, title: str) -> NamespaceInfo:
        row = self._catalog.find(namespace)
        return info_of(self._catalog.rename(row, self.limits._check_title(title)))

    def delete(self, namespace: str) -> None:
        row = self._catalog.find(namespace)
        self._catalog.check_not_inside()
        with self._lock.held():
            held = self._namespaces.get(row.number)
            try:
                # Before the remover sees it: a write that comes too late must not find it usable.
                if held is not None:
                    held._refuse(NamespaceNotFound(row.title))
                self._catalog.begin_removal(row)
            except BaseException:
                if held is not None and self._catalog.is_living(row):
                    held._refuse(None)
                raise
            held = self._namespaces.pop(row.number, None)
            if held is not None:  # a handler made it meanwhile
                held._refuse(NamespaceNotFound(row.title))
        self._remover.begin()

    def wait_for_removals(self) -> None:
        self._remover.wait()

    # -- the whole

    def snapshot(self) -> Database:
        """Return a read-only snapshot of the database, as a context manager.

        Later writes do not show in it; keys still expire at their time.
        """
        frozen = Database(self.store.snapshot(), limits=self.limits)
        frozen._meters = self._meters  # what is read there is counted here
        return frozen

    def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[DatabaseChange]:
        if follow:
            return self._changes(self.store._parts.follow(after, DATA, timeout))
        return self._changes(self.store.tail(after, prefix=DATA))

    def consumer(self, name: str) -> Consumer[DatabaseChange]:
        """Return the consumer with a name; it returns changes as tail() does.  See Consumer."""
        return Consumer(self.store._parts, name, self._shown, DATA)

    def consumers(self) -> list[ConsumerInfo]:
        """Return ConsumerInfo(name, position, lag, seen_at) of all consumers, by name."""
        return self.store.consumers()

    def _changes(self, found: Iterator[Change | None]) -> Iterator[DatabaseChange]:
        for change in found:
            shown = None if change is None else self._shown(change)
            if shown is not None:
                yield shown

    def _shown(self, change: Change) -> DatabaseChange | None:
        """Return a change in the store as tail() gives it; None: its namespace is gone."""
        namespace_id = self._catalog.id_of(data_number(change.key))
        return None if namespace_id is None else DatabaseChange(namespace_id, *key_change(change))

    def _primary_for_edges(self) -> Primary:
        """Return the primary for all edges in this process."""
        self.store._parts.check_usable()
        self._catalog.check_not_inside()
        if self._lock.is_mine():
            raise StoreBusy(
                "can't open an edge in a signal handler that interrupted the opening of another one"
            )
        with self._lock.held():
            if self._primary is None:
                with ExitStack() as undo:
                    undo.callback(self._forget_primary)
                    self._timers, self._primary = begin_primary(self.store, self._catalog, undo)
                    undo.pop_all()
            return self._primary

    def _forget_primary(self) -> None:
        self._primary = self._timers = None

    def usage(self, namespace: str | None = None, *, month: str | None = None) -> Usage:
        self.store._parts.check_usable()
        if namespace is not None:
            rows = {row.number: row for row in [self._catalog.find(namespace)]}
            numbers = set(rows)
        else:
            rows = {row.number: row for row in self._catalog.living()}
            numbers = self._ledger.numbers() | set(rows)
        named = {}
        for number in sorted(numbers):
            if number in rows:
                row = rows[number]
                named[number] = Named(row.id, row.title, size_of(self.store, data_prefix(number)))
            else:  # deleted; what was used stays
                named[number] = Named(None, None, GroupSize(0, 0))
        return report.usage(self._ledger, month, named)

    def sync(self) -> None:
        self.store.sync()

    def close(self) -> None:
        self._remover.stop()
        self._ledger.stop()
        if self._primary is not None and self._timers is not None:
            self._primary.close()
            self._timers.close()
        self.store.close()

    @property
    def closed(self) -> bool:
        return self.store.closed

    def __repr__(self) -> str:
        return f"<kvengine.Database {self.store.path!r}>"
