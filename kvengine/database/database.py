"""Database: one store, many namespaces.  It puts the parts together.

Invariants:

* Each namespace has one Namespace object in a database, so that it is counted in one place.
* What is deleted is out of reach when delete() returns; its space comes back in the background.
"""

from __future__ import annotations

import threading
from typing import Any, Literal, Self

from kvengine.database.catalog import Catalog, NamespaceInfo, Row
from kvengine.database.removal import Remover
from kvengine.engine.store import Store
from kvengine.errors import InvalidRequest, NamespaceNotFound
from kvengine.namespace.layout import data_prefix
from kvengine.namespace.limits import limits_of
from kvengine.namespace.namespace import Namespace
from kvengine.namespace.reading import Meter

ORDERS = ("id", "title")
DIRECTIONS = ("asc", "desc")


class Database:
    """Namespaces in a store; kvengine.open() gives one.

    Args:
        store: an open store; the database closes it.
        limits: "relaxed" (the default), "strict" (as Cloudflare), or a Limits.

    Raises:
        NotAStore: the store has keys, and no database made them.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store, *, limits: Any = "relaxed") -> None:
        self.limits = limits_of(limits)
        self.store = store
        self._catalog = Catalog(store)
        self._lock = threading.Lock()
        self._namespaces: dict[int, Namespace] = {}
        self._meters: dict[int, Meter] = {}
        self._remover = Remover(store, self._catalog)
        if not store.options.read_only:
            self._remover.begin()

    @classmethod
    def in_memory(cls, *, limits: Any = "relaxed", **options: Any) -> Self:
        """Return a new database that leaves nothing on disk; for tests."""
        return cls(Store.in_memory(**options), limits=limits)

    @property
    def clock(self) -> Any:
        """What tells the time by which keys end."""
        return self.store.options.clock

    @property
    def version(self) -> int:
        """The version of the newest change."""
        return self.store.version

    # -- namespaces

    def namespace(self, title: str) -> Namespace:
        """Return the namespace of a title, or else of an id; it is made if there is none.

        Raises:
            InvalidType: it is no str.
            InvalidRequest: it can't be a title.
            NamespaceNotFound: there is none, and the database is read-only.
        """
        while True:
            try:
                row = self._catalog.find(title)
            except NamespaceNotFound:
                if self.store.options.read_only:
                    raise
                self.limits.check_title(title)
                row = self._catalog.find_or_create(title, self.clock.time())
            found = self._namespace(row)
            if found is not None:
                return found

    def _namespace(self, row: Row) -> Namespace | None:
        """Return the one object of a namespace, or None if it was deleted meanwhile."""
        with self._lock:
            found = self._namespaces.get(row.number)
            if found is None and self._catalog.is_living(row):
                meter = self._meters.setdefault(row.number, Meter())
                found = Namespace(
                    self.store, data_prefix(row.number), self.limits, meter, id=row.id
                )
                # Not a method of the database: a cycle would keep it open until it is collected.
                found.title_of = self._catalog.title_by_id
                self._namespaces[row.number] = found
            return found

    def create_namespace(self, title: str) -> NamespaceInfo:
        """Make a namespace and return NamespaceInfo(id, title).

        Raises:
            NamespaceExists: there is one with this title.
        """
        self.store.check_usable()
        row = self._catalog.create(self.limits.check_title(title), self.clock.time())
        return NamespaceInfo(row.id, row.title)

    def namespaces(
        self,
        *,
        page: int = 1,
        per_page: int | None = None,
        order: Literal["id", "title"] = "title",
        direction: Literal["asc", "desc"] = "asc",
    ) -> list[NamespaceInfo]:
        """Return NamespaceInfo(id, title) of the namespaces; a page behind the last is empty.

        Args:
            page: from 1.
            per_page: how many a page has; None: all are on one.
            order: "id" or "title".
            direction: "asc" or "desc".
        """
        _positive("page", page)
        if order not in ORDERS:
            raise InvalidRequest(f"order must be 'id' or 'title', not {order!r}")
        if direction not in DIRECTIONS:
            raise InvalidRequest(f"direction must be 'asc' or 'desc', not {direction!r}")
        rows = [NamespaceInfo(row.id, row.title) for row in self._catalog.living()]
        rows.sort(key=lambda info: getattr(info, order), reverse=direction == "desc")
        if per_page is None:
            return rows if page == 1 else []
        _positive("per_page", per_page)
        return rows[(page - 1) * per_page : page * per_page]

    def rename(self, namespace: str, title: str) -> NamespaceInfo:
        """Give a namespace another title; its id stays.

        Raises:
            NamespaceNotFound: there is none with this title or id.
            NamespaceExists: another one has the new title.
        """
        row = self._catalog.find(namespace)
        self._catalog.rename(row, self.limits.check_title(title))
        return NamespaceInfo(row.id, title)

    def delete(self, namespace: str) -> None:
        """Delete a namespace with all its keys: at once for readers, in the background on disk.

        Raises:
            NamespaceNotFound: there is none with this title or id.
        """
        row = self._catalog.find(namespace)
        self._catalog.begin_removal(row)
        with self._lock:
            held = self._namespaces.pop(row.number, None)
        if held is not None:
            held.refuse(NamespaceNotFound(row.title))
        self._remover.begin()

    # -- the whole

    def sync(self) -> None:
        """Return when everything written so far is on disk."""
        self.store.sync()

    def close(self) -> None:
        """Write down what is needed for a quick open, and give everything back."""
        self._remover.stop()
        self.store.close()

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self.store.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kvengine.Database {self.store.path!r}>"


def open_database(path: Any, *, limits: Any = "relaxed", **options: Any) -> Database:
    """Open the database in a folder; both are made if there is none.

    Args:
        path: the folder.
        limits: "relaxed" (the default), "strict" (as Cloudflare), or a Limits.
        options: as of Store: durability, read_only, clock, ...

    Raises:
        NotAStore: the folder holds other files, or a store that no database made.
        StoreLocked: another process has it open for writing.
        CorruptData: the store is damaged.
    """
    chosen = limits_of(limits)
    store = Store(path, **options)
    try:
        return Database(store, limits=chosen)
    except BaseException:
        store.close()
        raise


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"{name} must be an int from 1 on, not {value!r}")
