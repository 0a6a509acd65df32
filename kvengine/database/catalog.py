"""The catalog: which namespaces there are, in memory and in the store.

Invariants:

* Titles are unique among living namespaces; ids and numbers are never used again.
* Each change of the catalog is one batch, with the generation in it; who follows a writer in
  another process sees by the generation that it must look again.
* A row never changes, it is replaced; who holds one asks again before relying on it.
* A change that was interrupted may be in the store or not: what is in memory is read again before
  anybody relies on it, so no number is given twice.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any, NamedTuple, NoReturn

from kvengine.engine.holding import Hold, OwnedLock
from kvengine.engine.store import Store
from kvengine.errors import (
    CorruptData,
    InvalidType,
    KvError,
    NamespaceExists,
    NamespaceNotFound,
    NotAStore,
    StoreBusy,
    StoreReadOnly,
    pass_on,
)
from kvengine.namespace.layout import CATALOG, DATA, NUMBER_MAX, catalog_key, data_number

ID_BYTES = 16
ID = re.compile(r"[0-9a-f]{32}")
STATES = ("live", "deleting")


class Row(NamedTuple):
    """A namespace in the catalog."""

    id: str
    number: int
    title: str
    created: int  # seconds since the epoch
    deleting: bool = False

    def encode(self) -> bytes:
        """Return the row as its record has it."""
        return json.dumps(
            {
                "number": self.number,
                "title": self.title,
                "created": self.created,
                "state": STATES[self.deleting],
            }
        ).encode()


class Catalog:
    """The namespaces of a store.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._follows = store.is_read_only  # others change the catalog; that it did stays so
        self._lock = OwnedLock()
        self._is_whole = True  # False: a change was begun; what is in memory may be old
        self._generation: bytes | None = None  # there is no catalog yet
        self._by_id: dict[str, Row] = {}
        self._by_title: dict[str, Row] = {}
        self._by_number: dict[int, Row] = {}
        self._next_number = 0
        self._begin()

    def _begin(self) -> None:
        if not is_database(self._store):
            if next(iter(self._store.keys(limit=1)), None) is not None:
                raise NotAStore(
                    f"{self._store.path} is a plain store, without namespaces; "
                    "open it with kvengine.Store"
                )
            if not self._store.is_read_only:
                self._store.put(CATALOG, _generation(0, 0))
        self.refresh()

    def refresh(self) -> None:
        """Read the catalog again if another process has changed it."""
        if self._store.get(CATALOG) != self._generation:
            self._load()

    def after_fork(self) -> None:
        """In a child process: whoever was changing it is not there."""
        self._lock.after_fork_in_child()

    def _load(self) -> None:
        with self._lock.held():
            # Its generation first: what is written while the rows are read shows at the next look.
            generation = self._store.get(CATALOG)
            fields = {"next_number": 0}
            if generation is not None:
                fields = self._fields(CATALOG, generation, FIELDS)
            rows = [
                self._row(entry.key, entry.value)
                for entry in self._store.scan(CATALOG, start_after=CATALOG)
            ]
            self._by_id = {row.id: row for row in rows}
            self._by_number = {row.number: row for row in rows}
            self._by_title = {row.title: row for row in rows if not row.deleting}
            self._next_number = max([fields["next_number"], *(row.number + 1 for row in rows)])
            self._generation = generation
            self._is_whole = True

    # -- looking

    def find(self, title_or_id: str) -> Row:
        """Return the living namespace of a title, or else of an id.

        Raises:
            InvalidType: it is no str.
            NamespaceNotFound: there is none.
        """
        if not isinstance(title_or_id, str):
            raise InvalidType(
                f"a namespace is named by its title or id, a str, not {type(title_or_id).__name__}"
            )
        self._look()
        row = self._by_title.get(title_or_id) or self._by_id.get(title_or_id)
        if row is None or row.deleting:
            raise NamespaceNotFound(title_or_id)
        return row

    def by_id(self, namespace_id: str) -> Row:
        """Return the living namespace of an id.

        Raises:
            InvalidType: it is no str.
            NamespaceNotFound: there is none.
        """
        if not isinstance(namespace_id, str):
            raise InvalidType(f"an id is a str, not {type(namespace_id).__name__}")
        self._look()
        return self._living(namespace_id)

    def title_by_id(self, namespace_id: str) -> str:
        """Return the title of a living namespace.

        Raises:
            NamespaceNotFound: it was deleted.
        """
        self._look()
        return self._living(namespace_id).title

    def is_living(self, row: Row) -> bool:
        """True unless the namespace was deleted since."""
        self._settle()
        found = self._by_id.get(row.id)
        return found is not None and not found.deleting

    def living(self) -> list[Row]:
        """Return the living namespaces."""
        self._look()
        return list(self._by_title.values())

    def deleting(self) -> list[Row]:
        """Return the namespaces whose keys are being removed."""
        self._settle()
        return [row for row in list(self._by_id.values()) if row.deleting]

    def id_of(self, number: int) -> str | None:
        """Return the id of the living namespace with a number."""
        self._settle()
        row = self._by_number.get(number)
        if row is None and self._follows:
            self.refresh()
            row = self._by_number.get(number)
        return None if row is None or row.deleting else row.id

    def check_key(self, key: bytes) -> None:
        """Raise NamespaceNotFound if a key belongs to a namespace that was deleted."""
        if key.startswith(DATA) and self.id_of(data_number(key)) is None:
            raise NamespaceNotFound(f"number {data_number(key)}")

    def _look(self) -> None:
        self._store.check_usable()
        if self._follows:
            self.refresh()
        self._settle()

    def _settle(self) -> None:
        """After a change that was interrupted, believe the store."""
        if not self._is_whole and not self._lock.is_mine():
            with self._lock.held():
                if not self._is_whole:
                    self._load()

    def _living(self, namespace_id: str) -> Row:
        row = self._by_id.get(namespace_id)
        if row is None or row.deleting:
            raise NamespaceNotFound(namespace_id)
        return row

    # -- changing

    def create(self, title: str, now: float) -> Row:
        """Add a namespace.

        Raises:
            NamespaceExists: another one has the title.
        """
        with self._alone():
            return self._create(title, now)

    def _alone(self) -> Hold:
        """Return a lock, held, under which the catalog may be changed.

        Raises:
            StoreBusy: this thread is in the middle of another change.
        """
        self.check_not_inside()
        hold = self._lock.held()
        if not self._is_whole:
            self._load()
        return hold

    def is_changed_here(self) -> bool:
        """True if a handler or a finalizer asks that interrupted a change in this very thread."""
        return self._lock.is_mine()

    def check_not_inside(self) -> None:
        """Refuse what would have to wait for the change that it has interrupted.

        Raises:
            StoreBusy: this thread is in the middle of another change.
        """
        if self._lock.is_mine():
            raise StoreBusy(
                "namespaces can't be made, renamed or deleted in a signal handler or a finalizer "
                "that interrupted this very thread while it did so: do it afterwards"
            )

    def _create(self, title: str, now: float) -> Row:
        if title in self._by_title:
            raise NamespaceExists(title)
        if self._next_number > NUMBER_MAX:
            raise KvError(f"all {NUMBER_MAX + 1} numbers of namespaces were used; start anew")
        row = Row(secrets.token_hex(ID_BYTES), self._next_number, title, int(now))
        self._write(row, next_number=self._next_number + 1)
        return row

    def find_or_create(self, title: str, now: float) -> Row:
        """Return the living namespace of a title, or else of an id, or else add one."""
        with self._alone():
            try:
                return self.find(title)
            except NamespaceNotFound:
                return self._create(title, now)

    def rename(self, row: Row, title: str) -> Row:
        """Give a namespace another title.

        Raises:
            NamespaceNotFound: it was deleted meanwhile.
            NamespaceExists: another one has the title.
        """
        with self._alone():
            row = self._living(row.id)
            if self._by_title.get(title, row).id != row.id:
                raise NamespaceExists(title)
            renamed = row._replace(title=title)
            self._write(renamed)
            return renamed

    def begin_removal(self, row: Row) -> None:
        """Let nobody find a namespace any more; its keys are still there."""
        with self._alone():
            row = self._living(row.id)
            self._write(row._replace(deleting=True))

    def end_removal(self, row: Row) -> None:
        """Forget a namespace; its keys are gone."""
        with self._alone():
            if row.id in self._by_id:
                self._write(row, forget=True)

    def _write(self, row: Row, *, next_number: int | None = None, forget: bool = False) -> None:
        """Replace a row, here and in the store, or forget it; the lock is held."""
        if self._follows and not self._store.is_read_only:
            raise StoreReadOnly(
                "the replica was promoted after the database was opened on it; open it again"
            )
        old = self._by_id.get(row.id)
        number = self._next_number if next_number is None else next_number
        fields = self._fields(CATALOG, self._generation or b"", FIELDS)
        generation = _generation(fields["generation"] + 1, number)
        self._is_whole = False  # Ctrl-C while it waits for the disk: the change may be there
        with self._store.batch() as batch:
            batch.makes_room = row.deleting
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

    # -- records

    def _row(self, key: bytes, data: bytes) -> Row:
        fields = self._fields(key, data, ROW_FIELDS)
        namespace_id = key[len(CATALOG) :].decode("ascii", "replace")
        if not ID.fullmatch(namespace_id):
            self._damaged(key, "a key of 32 hex digits", repr(key))
        if fields["state"] not in STATES:
            self._damaged(key, f"a state of {STATES}", repr(fields["state"]))
        if not 0 <= fields["number"] <= NUMBER_MAX:
            self._damaged(key, f"a number up to {NUMBER_MAX}", fields["number"])
        return Row(
            id=namespace_id,
            number=fields["number"],
            title=fields["title"],
            created=fields["created"],
            deleting=fields["state"] == "deleting",
        )

    def _fields(self, key: bytes, data: bytes, types: dict[str, type]) -> dict[str, Any]:
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            pass_on(error)
            self._damaged(key, "JSON", "something else")
        if not isinstance(fields, dict) or any(
            type(fields.get(name)) is not kind for name, kind in types.items()
        ):
            self._damaged(key, f"an object with {', '.join(types)}", "something else")
        return fields

    def _damaged(self, key: bytes, expected: str, found: object) -> NoReturn:
        raise CorruptData(
            f"catalog record {key!r}",
            file=self._store.path,
            offset=0,
            expected=expected,
            found=found,
        )


FIELDS: dict[str, type] = {"generation": int, "next_number": int}
ROW_FIELDS: dict[str, type] = {"number": int, "title": str, "created": int, "state": str}


def is_database(store: Store) -> bool:
    """True if the store has a catalog, even a damaged one; a plain store may have its first key."""
    data = store.get(CATALOG)
    if data is None:
        return False
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        pass_on(error)
        fields = None
    if isinstance(fields, dict) and fields.keys() >= FIELDS.keys():
        return True
    after = next(iter(store.keys(CATALOG, start_after=CATALOG, limit=1)), b"")
    return ID.fullmatch(after[len(CATALOG) :].decode("ascii", "replace")) is not None


def is_living_record(data: bytes | None) -> bool:
    """True if this is the catalog's record of a namespace that was not deleted.

    Raises:
        CorruptData: it is no record of the catalog.
    """
    if data is None:
        return False
    try:
        state = json.loads(data)["state"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        pass_on(error)
        raise CorruptData(
            "a namespace's record", file="the upstream", offset=0, expected="JSON with a state",
            found=f"{len(data)} other bytes",
        ) from None  # fmt: skip
    return bool(state == STATES[False])


def _generation(generation: int, next_number: int) -> bytes:
    return json.dumps({"generation": generation, "next_number": next_number}).encode()
