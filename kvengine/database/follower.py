"""The public follower: of a store, of a database, or of some of its namespaces.

Invariants:

* A replica of some namespaces holds their keys, their records in the catalog, and the catalog's
  generation, so it is a database of these namespaces.  It does not hold their usage.
* Titles are looked up when the replica is created: a namespace that is renamed later is still
  followed, and one that is deleted disappears from the replica as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from kvengine.client.log import HttpLog
from kvengine.clock import SYSTEM_CLOCK, Clock
from kvengine.database.catalog_rows import STATES
from kvengine.database.database import Database
from kvengine.engine.store import Store
from kvengine.errors import CorruptData, InvalidRequest, NamespaceNotFound, pass_on
from kvengine.namespace.layout import CATALOG, GROUPS, catalog_key, data_prefix
from kvengine.options import Durability, Options, named
from kvengine.replication.follower import Follower as StoreFollower
from kvengine.replication.local_source import LocalSource
from kvengine.replication.network.messages import Source
from kvengine.replication.selection import Selection, select


class Follower(StoreFollower):
    """A replica of another store or database, which follows its log.

    Args:
        source: a Source, or a Store or Database of this process.
        path: the folder of the replica; None: in memory.
        prefixes: copy only keys that begin with one of them; None: all keys.
        namespaces: copy only these namespaces of a database, by title or id.
        name: a consumer name; a source in this process keeps deletes for it, for the source's
            `retention_s`.  None: a replica that is too far behind starts over.
        background: follow on a separate thread; otherwise only catch_up() does.
        start_over: replace what the folder holds: a promoted store, or a replica of other keys.
        The others are settings of the replica, as of Store; other processes may read it with
        read_only=True.

    Raises:
        InvalidRequest: the folder holds a store that is not a replica, or a replica of other keys.
        NamespaceNotFound: the source has no such namespace.
        ReplicaDiverged: the folder holds a replica of another store.
        StoreLocked: another process has the folder open without read_only=True.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        source: Source | Store | Database,
        path: Any = None,
        *,
        prefixes: Iterable[bytes] | None = None,
        namespaces: Iterable[str] | None = None,
        name: str | None = None,
        background: bool = True,
        start_over: bool = False,
        groups: tuple[bytes, int] | None = None,
        durability: Durability = "group",
        sync_interval_s: float = 0.05,
        exclusive: bool = False,
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
    ) -> None:
        options = named(Options, locals())
        if prefixes is not None and namespaces is not None:
            raise InvalidRequest("give a Follower either prefixes or namespaces, not both")
        if isinstance(namespaces, str):
            raise InvalidRequest(f"namespaces must be a list of titles, not {namespaces!r}")
        self._namespaces = None if namespaces is None else tuple(namespaces)
        if namespaces is not None or isinstance(source, Database):
            options["groups"] = groups or GROUPS
        if isinstance(source, Database):
            source = source.store
        if isinstance(source, Store):
            source = LocalSource(source)
        super().__init__(
            source,
            path,
            prefixes=prefixes,
            name=name,
            background=background,
            start_over=start_over,
            **options,
        )

    def database(self) -> Database:
        """Return the replica as a database, which is read-only until promote().

        Closing it closes the replica.

        Raises:
            NotCaughtUp: the first copy is not complete yet.
            NotAStore: the source is a store without namespaces.
        """
        return Database(self.store)

    def _select(self, prefixes: Iterable[bytes] | None) -> Selection:
        if self._namespaces is None:
            return select(prefixes)
        try:
            rows = _rows(self._store.scan(CATALOG))
            found = [_find(rows, title) for title in self._namespaces]
        except NamespaceNotFound:  # not held yet
            found = _found_in(self._source, self._namespaces)
        numbers = {number for _, number in found}
        keys = {CATALOG, *(key for key, _ in found)}
        return select([data_prefix(number) for number in numbers], keys)


def _found_in(source: Source, titles: Iterable[str]) -> list[tuple[bytes, int]]:
    """Return key and number of namespaces of a source."""
    if isinstance(source, HttpLog):
        asked = [source.namespace(title) for title in titles]
        return [(catalog_key(namespace_id), number) for namespace_id, number in asked]
    rows = _rows(_catalog_of(source))
    return [_find(rows, title) for title in titles]


def _catalog_of(source: Source) -> Iterator[Any]:
    """Yield the newest records of the catalog; of what is only a log, by reading all of it."""
    if isinstance(source, LocalSource):
        return source.store.scan(CATALOG)
    newest = {}
    for piece in source.pieces(0):
        for change in piece.changes:
            if change.key.startswith(CATALOG):
                newest[change.key] = change
    return (change for change in newest.values() if change.kind == "put")


def _rows(records: Iterable[Any]) -> dict[str, tuple[bytes, int]]:
    """Return key and number of the living namespaces, by title and by id."""
    found = {}
    for record in records:
        if record.key != CATALOG:
            try:
                fields = json.loads(record.value)
                if fields["state"] == STATES[False]:
                    row = record.key, fields["number"]
                    found[fields["title"]] = row
                    found.setdefault(record.key[len(CATALOG) :].decode(), row)
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                pass_on(error)
                raise CorruptData(
                    f"catalog record {record.key!r}",
                    file="the source",
                    offset=0,
                    expected="a namespace",
                    found=repr(error),
                ) from None
    return found


def _find(rows: dict[str, tuple[bytes, int]], title: str) -> tuple[bytes, int]:
    if title not in rows:
        raise NamespaceNotFound(title)
    return rows[title]
