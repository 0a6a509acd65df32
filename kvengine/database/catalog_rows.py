"""The records of the catalog: a row for each namespace, and the generation.

Invariants:

* A damaged record is an error that names the record; it is never taken for a namespace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from kvengine.engine.store import Store
from kvengine.errors import CorruptData, InvalidRequest, pass_on
from kvengine.namespace.bounds import Bounds, bounds_of
from kvengine.namespace.interface.results import NamespaceInfo
from kvengine.namespace.layout import CATALOG, NUMBER_MAX

ID = re.compile(r"[0-9a-f]{32}")
STATES = ("live", "deleting")
ORDERS = ("id", "title")
DIRECTIONS = ("asc", "desc")
FIELDS: dict[str, type] = {"generation": int, "next_number": int}
ROW_FIELDS: dict[str, type] = {"number": int, "title": str, "created": int, "state": str}


class Row(NamedTuple):
    """A namespace in the catalog."""

    id: str
    number: int
    title: str
    created: int  # seconds since the epoch
    deleting: bool = False
    bounds: Bounds | None = None

    def encode(self) -> bytes:
        """Return the record of the row."""
        return json.dumps(
            {
                "number": self.number,
                "title": self.title,
                "created": self.created,
                "state": STATES[self.deleting],
                **({} if self.bounds is None else self.bounds._asdict()),
            }
        ).encode()


def row_of(path: str, key: bytes, data: bytes) -> Row:
    """Return the row of a namespace.

    Args:
        path: of the store, for the error.
        key, data: of its record.

    Raises:
        CorruptData: the record is damaged.
    """
    fields = fields_of(path, key, data, ROW_FIELDS)
    namespace_id = key[len(CATALOG) :].decode("ascii", "replace")
    if not ID.fullmatch(namespace_id):
        _damaged(path, key, "a key of 32 hex digits", repr(key))
    if fields["state"] not in STATES:
        _damaged(path, key, f"a state of {STATES}", repr(fields["state"]))
    if not 0 <= fields["number"] <= NUMBER_MAX:
        _damaged(path, key, f"a number up to {NUMBER_MAX}", fields["number"])
    return Row(
        id=namespace_id,
        number=fields["number"],
        title=fields["title"],
        created=fields["created"],
        deleting=fields["state"] == "deleting",
        bounds=_bounds(path, key, fields),
    )


def _bounds(path: str, key: bytes, fields: dict[str, Any]) -> Bounds | None:
    """Return the bounds in a row; those of namespaces without bounds have no such fields."""
    found = [fields.get(name) for name in Bounds._fields]
    if found == [None, None, None]:
        return None
    try:
        return bounds_of(*found)
    except InvalidRequest as error:
        _damaged(path, key, "bounds", str(error))


def info_of(row: Row) -> NamespaceInfo:
    """Return a namespace as users see it."""
    return NamespaceInfo(row.id, row.title, *(row.bounds or ()))


def page_of(
    rows: Iterable[Row], page: int, per_page: int | None, order: str, direction: str
) -> list[NamespaceInfo]:
    """Return a page of namespaces; Database.namespaces() has the arguments."""
    _positive("page", page)
    if order not in ORDERS:
        raise InvalidRequest(f"order must be 'id' or 'title', not {order!r}")
    if direction not in DIRECTIONS:
        raise InvalidRequest(f"direction must be 'asc' or 'desc', not {direction!r}")
    infos = sorted(
        map(info_of, rows), key=lambda info: getattr(info, order), reverse=direction == "desc"
    )
    if per_page is None:
        return infos if page == 1 else []
    _positive("per_page", per_page)
    return infos[(page - 1) * per_page : page * per_page]


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"{name} must be an int of at least 1, not {value!r}")


def fields_of(path: str, key: bytes, data: bytes, types: dict[str, type]) -> dict[str, Any]:
    """Return the fields of a record, after checking the type of each field in `types`.

    Raises:
        CorruptData: it is something else.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        pass_on(error)
        _damaged(path, key, "JSON", "something else")
    if not isinstance(fields, dict) or any(
        type(fields.get(name)) is not kind for name, kind in types.items()
    ):
        _damaged(path, key, f"an object with {', '.join(types)}", "something else")
    return fields


def _damaged(path: str, key: bytes, expected: str, found: object) -> NoReturn:
    raise CorruptData(
        f"catalog record {key!r}",
        file=path,
        offset=0,
        expected=expected,
        found=found,
    )


def is_database(store: Store) -> bool:
    """True if the store has a catalog, even a damaged one."""
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
    """True if this is the record of a namespace that has not been deleted.

    Raises:
        CorruptData: it is not a record of the catalog.
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


def generation_of(generation: int, next_number: int) -> bytes:
    """Return the record of the catalog itself."""
    return json.dumps({"generation": generation, "next_number": next_number}).encode()
