"""The catalog: which namespaces there are, in memory and in the store.

Invariants:

* Titles are unique among living namespaces; ids and numbers are never used again.
* Each change of the catalog is one batch, with the generation in it; who follows a writer in
  another process sees by the generation that it must look again.
"""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

from kvengine.engine.store import Store
from kvengine.errors import CorruptData, NamespaceExists, NamespaceNotFound, NotAStore
from kvengine.namespace.layout import CATALOG, NUMBER_MAX, catalog_key

ID_BYTES = 16


class NamespaceInfo(NamedTuple):
    """A namespace as a list shows it."""

    id: str  # 32 hex digits
    title: str


@dataclass(slots=True)
class Row:
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
                "state": "deleting" if self.deleting else "live",
            }
        ).encode()


class Catalog:
    """The namespaces of a store.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._generation = b""
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
            if not self._store.options.read_only:
                self._store.put(CATALOG, _generation(0, 0))
        self.refresh()

    def refresh(self) -> None:
        """Read the catalog again if another process has changed it."""
        generation = self._store.get(CATALOG) or b""
        if generation == self._generation:
            return
        with self._lock:
            rows = [
                _decode(entry.key, entry.value)
                for entry in self._store.scan(CATALOG)
                if entry.key != CATALOG
            ]
            self._by_id = {row.id: row for row in rows}
            self._by_number = {row.number: row for row in rows}
            self._by_title = {row.title: row for row in rows if not row.deleting}
            if generation:
                self._next_number = _fields(CATALOG, generation)["next_number"]
            self._generation = generation

    # -- looking

    def find(self, title_or_id: str) -> Row:
        """Return the living namespace of a title, or else of an id.

        Raises:
            NamespaceNotFound: there is none.
        """
        if self._store.options.read_only:
            self.refresh()
        row = self._by_title.get(title_or_id) or self._by_id.get(title_or_id)
        if row is None or row.deleting:
            raise NamespaceNotFound(title_or_id)
        return row

    def living(self) -> list[Row]:
        """Return the living namespaces."""
        if self._store.options.read_only:
            self.refresh()
        with self._lock:
            return list(self._by_title.values())

    def deleting(self) -> list[Row]:
        """Return the namespaces whose keys are being removed."""
        with self._lock:
            return [row for row in self._by_id.values() if row.deleting]

    def id_of(self, number: int) -> str | None:
        """Return the id of the living namespace with a number."""
        row = self._by_number.get(number)
        if row is None and self._store.options.read_only:
            self.refresh()
            row = self._by_number.get(number)
        return None if row is None or row.deleting else row.id

    # -- changing

    def create(self, title: str, now: float) -> Row:
        """Add a namespace.

        Raises:
            NamespaceExists: another one has the title.
        """
        with self._lock:
            if title in self._by_title:
                raise NamespaceExists(title)
            if self._next_number > NUMBER_MAX:
                raise NamespaceExists(title)
            row = Row(secrets.token_hex(ID_BYTES), self._next_number, title, int(now))
            self._write(row, next_number=self._next_number + 1)
            self._by_id[row.id] = self._by_title[title] = self._by_number[row.number] = row
            return row

    def rename(self, row: Row, title: str) -> None:
        """Give a namespace another title.

        Raises:
            NamespaceExists: another one has it.
        """
        with self._lock:
            if self._by_title.get(title, row) is not row:
                raise NamespaceExists(title)
            renamed = Row(row.id, row.number, title, row.created)
            self._write(renamed)
            del self._by_title[row.title]
            row.title = title
            self._by_title[title] = row

    def begin_removal(self, row: Row) -> None:
        """Let nobody find a namespace any more; its keys are still there."""
        with self._lock:
            if row.deleting:
                raise NamespaceNotFound(row.title)
            self._write(Row(row.id, row.number, row.title, row.created, deleting=True))
            row.deleting = True
            del self._by_title[row.title]

    def end_removal(self, row: Row) -> None:
        """Forget a namespace; its keys are gone."""
        with self._lock:
            generation = self._next_generation(self._next_number)
            with self._store.batch() as batch:
                batch.delete(catalog_key(row.id))
                batch.put(CATALOG, generation)
            self._generation = generation
            del self._by_id[row.id], self._by_number[row.number]

    def _write(self, row: Row, next_number: int | None = None) -> None:
        number = self._next_number if next_number is None else next_number
        generation = self._next_generation(number)
        with self._store.batch() as batch:
            batch.put(catalog_key(row.id), row.encode())
            batch.put(CATALOG, generation)
        self._generation, self._next_number = generation, number

    def _next_generation(self, next_number: int) -> bytes:
        return _generation(_fields(CATALOG, self._generation)["generation"] + 1, next_number)


def is_database(store: Store) -> bool:
    """True if the store has a catalog; a plain store may have any keys, the catalog's too."""
    try:
        fields = json.loads(store.get(CATALOG) or b"null")
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.keys() >= {"generation", "next_number"}


def _generation(generation: int, next_number: int) -> bytes:
    return json.dumps({"generation": generation, "next_number": next_number}).encode()


def _fields(key: bytes, data: bytes) -> Any:
    try:
        fields = json.loads(data)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise CorruptData(
            "catalog", file=repr(key), offset=0, expected="a JSON object", found="something else"
        )
    return fields


def _decode(key: bytes, data: bytes) -> Row:
    fields = _fields(key, data)
    return Row(
        id=key[len(CATALOG) :].decode(),
        number=fields["number"],
        title=fields["title"],
        created=fields["created"],
        deleting=fields["state"] == "deleting",
    )
