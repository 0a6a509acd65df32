"""The catalog: the list of namespaces, in memory and in the store.

Invariants:

* Titles are unique among existing namespaces; ids and numbers are never reused.
* Each change of the catalog is one batch that includes the generation.  From the generation every
  process sees that another one has changed the catalog, and reads it again before relying on it.
* One process at a time changes it, under a lease that ends with the process.
* A row never changes; it is replaced.  A holder of a row asks again before relying on it.
* A change that was interrupted may be in the store or not: the catalog is read again before
  anything relies on it, so no number is used twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from kvengine.database.catalog_rows import (
    FIELDS,
    Row,
    fields_of,
    generation_of,
    is_database,
    row_of,
)
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.store import Store
from kvengine.errors import (
    InvalidType,
    KvError,
    NamespaceExists,
    NamespaceNotFound,
    NotAStore,
    StoreBusy,
    StoreReadOnly,
    VersionConflict,
)
from kvengine.file.folder import rest
from kvengine.file.lease import Lease, holder, take
from kvengine.file.system import fork_watch
from kvengine.namespace.bounds import Bounds
from kvengine.namespace.layout import CATALOG, DATA, NUMBER_MAX, catalog_key, data_number

ID_BYTES = 16
LEASE_NAME = "NAMESPACES.lock"
PATIENCE_S = 10.0  # with another process that changes the catalog
PAUSE_S, PAUSE_MAX_S = 0.000_2, 0.01


class Catalog:
    """The namespaces of a store.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._follows = store._parts.is_read_only  # only others change the catalog; that stays so
        self.on_removal: Callable[[], object] | None = None  # called when others remove some
        self._changing = OwnedLock()  # one thread changes it, which may wait for another process
        self._lock = OwnedLock()  # of what is in memory
        self._has_removals = False  # others began some that on_removal() was not told of
        self._is_whole = True  # False: a change was begun; what is in memory may be old
        self._generation: bytes | None = None  # there is no catalog yet
        self._by_id: dict[str, Row] = {}
        self._by_title: dict[str, Row] = {}
        self._by_number: dict[int, Row] = {}
        self._next_number = 0
        self._begin()
        fork_watch(self, Catalog.after_fork)  # namespaces keep it, also without their database

    def _begin(self) -> None:
        if not is_database(self._store):
            is_plain = next(iter(self._store.keys(limit=1)), None) is not None
            if is_plain and not is_database(self._store):  # nobody made it one meanwhile
                raise NotAStore(
                    f"{self._store.path} is a plain store, without namespaces; "
                    "open it with kvengine.Store"
                )
            if not self._store._parts.is_read_only:
                with suppress(VersionConflict):  # another process did
                    self._store.put(CATALOG, generation_of(0, 0), if_version=0)
        self.refresh()

    def refresh(self) -> None:
        """Read the catalog again if another process changed it, or a change was interrupted."""
        if self._is_old() and not self._lock.is_mine():
            with self._lock.held():
                if self._is_old():
                    self._load()
            self._tell()

    def _tell(self) -> None:
        """Notify about removals, without holding a lock."""
        if self._has_removals and self.on_removal is not None:
            self._has_removals = False
            self.on_removal()

    def _is_old(self) -> bool:
        return not self._is_whole or self._store.get(CATALOG) != self._generation

    def after_fork(self) -> None:
        """In a child process: no thread that was changing it exists here."""
        self._changing.after_fork_in_child()
        self._lock.after_fork_in_child()

    def _load(self) -> None:
        """Read the catalog; the lock is held."""
        self._is_whole = False
        # Its generation first: what is written while the rows are read shows at the next look.
        generation = self._store.get(CATALOG)
        fields = {"next_number": 0}
        if generation is not None:
            fields = fields_of(self._store.path, CATALOG, generation, FIELDS)
        rows = [
            row_of(self._store.path, entry.key, entry.value)
            for entry in self._store.scan(CATALOG, start_after=CATALOG)
        ]
        self._by_id = {row.id: row for row in rows}
        self._by_number = {row.number: row for row in rows}
        self._by_title = {row.title: row for row in rows if not row.deleting}
        self._next_number = max([fields["next_number"], *(row.number + 1 for row in rows)])
        self._generation = generation
        self._is_whole = True
        self._has_removals = any(row.deleting for row in rows)

    # -- looking

    def find(self, title_or_id: str) -> Row:
        """Return the namespace with a title or an id.

        Raises:
            InvalidType: it is not a str.
            NamespaceNotFound: it does not exist.
        """
        if not isinstance(title_or_id, str):
            raise InvalidType(
                f"a namespace's title or id must be a str, not {type(title_or_id).__name__}"
            )
        self._look()
        row = self._by_title.get(title_or_id) or self._by_id.get(title_or_id)
        if row is None or row.deleting:
            raise NamespaceNotFound(title_or_id)
        return row

    def by_id(self, namespace_id: str) -> Row:
        """Return the namespace with an id.

        Raises:
            InvalidType: it is not a str.
            NamespaceNotFound: it does not exist.
        """
        if not isinstance(namespace_id, str):
            raise InvalidType(f"an id must be a str, not {type(namespace_id).__name__}")
        self._look()
        return self._living(namespace_id)

    def title_by_id(self, namespace_id: str) -> str:
        """Return the title of a namespace.

        Raises:
            NamespaceNotFound: it was deleted.
        """
        self._look()
        return self._living(namespace_id).title

    def is_living(self, row: Row) -> bool:
        """True unless the namespace has been deleted."""
        self.refresh()
        found = self._by_id.get(row.id)
        return found is not None and not found.deleting

    def living(self) -> list[Row]:
        """Return the existing namespaces."""
        self._look()
        return list(self._by_title.values())

    def deleting(self) -> list[Row]:
        """Return the namespaces whose keys are being removed."""
        self.refresh()
        return [row for row in list(self._by_id.values()) if row.deleting]

    def bounds_of(self, namespace_id: str) -> Bounds | None:
        """Return the bounds of a namespace, as they were when the catalog was read last."""
        row = self._by_id.get(namespace_id)
        return None if row is None else row.bounds

    def id_of(self, number: int) -> str | None:
        """Return the id of the namespace with a number."""
        self.refresh()
        row = self._by_number.get(number)
        return None if row is None or row.deleting else row.id

    def check_key(self, key: bytes) -> None:
        """Raise NamespaceNotFound if a key belongs to a namespace that was deleted."""
        if key.startswith(DATA) and self.id_of(data_number(key)) is None:
            raise NamespaceNotFound(f"number {data_number(key)}")

    def _look(self) -> None:
        self._store._parts.check_usable()
        self.refresh()

    def _living(self, namespace_id: str) -> Row:
        row = self._by_id.get(namespace_id)
        if row is None or row.deleting:
            raise NamespaceNotFound(namespace_id)
        return row

    # -- changing

    def create(self, title: str, now: float, bounds: Bounds | None = None) -> Row:
        """Add a namespace.

        Raises:
            NamespaceExists: another namespace has the title.
        """
        with self._alone():
            return self._create(title, now, bounds)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the catalog against other changes, and read its present state.

        Raises:
            StoreBusy: this thread is in the middle of a change, or another process kept changing
                it.
        """
        self.check_not_inside()
        with self._changing.held():
            lease = None
            try:
                if not self._store._parts.is_read_only:  # else the store refuses
                    lease = self._lease()
                with self._lock.held():
                    if self._is_old():
                        self._load()
                    yield
            finally:
                if lease is not None:
                    lease.release()
        self._tell()

    def _lease(self) -> Lease:
        """Return the lease, which one process at a time holds."""
        directory, waited_s, pause_s = self._store._parts.directory, 0.0, PAUSE_S
        while (lease := take(directory, LEASE_NAME)) is None:
            if waited_s > PATIENCE_S:
                raise StoreBusy(
                    "namespaces can't be created, renamed or deleted now: process "
                    f"{holder(directory, LEASE_NAME)} has been changing them for {PATIENCE_S:.0f} "
                    "s; try again later"
                )
            rest(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, PAUSE_MAX_S)
        return lease

    def is_changed_here(self) -> bool:
        """True if called from a handler or finalizer that interrupted a change in this thread."""
        return self._changing.is_mine()

    def check_not_inside(self) -> None:
        """Refuse a call that would have to wait for the change that it has interrupted.

        Raises:
            StoreBusy: this thread is in the middle of another change.
        """
        if self._changing.is_mine():
            raise StoreBusy(
                "namespaces can't be created, renamed or deleted in a signal handler or finalizer "
                "that interrupted such a change in the same thread: do it afterwards"
            )

    def _create(self, title: str, now: float, bounds: Bounds | None = None) -> Row:
        if title in self._by_title:
            raise NamespaceExists(title)
        if self._next_number > NUMBER_MAX:
            raise KvError(
                f"all {NUMBER_MAX + 1} namespace numbers are used up; export to a new database"
            )
        row = Row(secrets.token_hex(ID_BYTES), self._next_number, title, int(now), bounds=bounds)
        self._write(row, next_number=self._next_number + 1)
        return row

    def find_or_create(self, title: str, now: float) -> Row:
        """Return the namespace with a title or an id, or add one."""
        with self._alone():
            try:
                return self.find(title)
            except NamespaceNotFound:
                return self._create(title, now)

    def rename(self, row: Row, title: str) -> Row:
        """Give a namespace another title.

        Raises:
            NamespaceNotFound: it was deleted meanwhile.
            NamespaceExists: another namespace has the title.
        """
        with self._alone():
            row = self._living(row.id)
            if self._by_title.get(title, row).id != row.id:
                raise NamespaceExists(title)
            renamed = row._replace(title=title)
            self._write(renamed)
            return renamed

    def set_bounds(self, row: Row, bounds: Bounds | None) -> Row:
        """Give a namespace other bounds.

        Raises:
            NamespaceNotFound: it was deleted meanwhile.
        """
        with self._alone():
            bounded = self._living(row.id)._replace(bounds=bounds)
            self._write(bounded)
            return bounded

    def begin_removal(self, row: Row) -> None:
        """Hide a namespace; its keys still exist."""
        with self._alone():
            row = self._living(row.id)
            self._write(row._replace(deleting=True))

    def end_removal(self, row: Row) -> None:
        """Remove a namespace whose keys have been removed."""
        with self._alone():
            if row.id in self._by_id:
                self._write(row, forget=True)

    def _write(self, row: Row, *, next_number: int | None = None, forget: bool = False) -> None:
        """Replace or remove a row, here and in the store; the lock is held."""
        if self._follows and not self._store._parts.is_read_only:
            raise StoreReadOnly(
                "the replica was promoted after the database was opened on it; open it again"
            )
        old = self._by_id.get(row.id)
        number = self._next_number if next_number is None else next_number
        fields = fields_of(self._store.path, CATALOG, self._generation or b"", FIELDS)
        generation = generation_of(fields["generation"] + 1, number)
        self._is_whole = False  # Ctrl-C while it waits for the disk: the change may be there
        with self._store.batch() as batch:
            batch._makes_room = row.deleting
            if forget:
                batch.delete(catalog_key(row.id))
            else:
                batch.put(catalog_key(row.id), row.encode())
            batch.put(CATALOG, generation)
        if forget:
            del self._by_id[row.id], self._by_number[row.number]
        else:
            self._by_id[row.id] = self._by_number[row.number] = row
            if not row.deleting:
                self._by_title[row.title] = row
            if old is not None and (row.deleting or row.title != old.title):
                del self._by_title[old.title]
        self._generation, self._next_number = generation, number
        self._is_whole = True
