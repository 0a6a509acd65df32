"""Lists: pages of keys in the order of their UTF-8 bytes.

Invariants:

* The cost of a page is bounded: the search for live keys stops after a while; then the page has
  fewer keys than requested, possibly none, and the list continues after its cursor.
* A key that exists during the whole list is returned exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvengine.engine.order.scan import heads_page
from kvengine.errors import InvalidRequest, InvalidType
from kvengine.namespace import cursor as cursors
from kvengine.namespace.cursor import ListQuery
from kvengine.namespace.interface.results import KeyInfo, ListResult
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.limits import utf8
from kvengine.namespace.page import key_infos

if TYPE_CHECKING:
    from kvengine.engine.store import Store
    from kvengine.entry import GroupSize
    from kvengine.namespace.namespace import Namespace

EXAMINE_KEYS = 10_000  # dead ones, looked at for one page; a few milliseconds
FOLDER_KEYS = 64  # taken at once while folders may be jumped over
BEHIND = b"\xff"  # comes after every byte of UTF-8


def text_bytes(name: str, text: Any) -> bytes:
    """Return a text as UTF-8; None is nothing.

    Raises:
        InvalidType: it is not a str.
        InvalidRequest: UTF-8 can't encode it.
    """
    if text is None:
        return b""
    if not isinstance(text, str):
        raise InvalidType(f"{name} must be a str, not {type(text).__name__}")
    return utf8(name, text)


def list_page(
    namespace: Namespace,
    prefix: str | None,
    limit: int | None,
    cursor: str | None,
    reverse: bool,
    start_after: str | None,
    delimiter: str | None,
) -> ListResult:
    """Return one page of a list; Namespace.list has the arguments."""
    size = (
        namespace.limits.list_keys if limit is None else namespace.limits._check_list_limit(limit)
    )
    query = ListQuery(
        namespace._number,
        text_bytes("prefix", prefix),
        text_bytes("delimiter", delimiter),
        bool(reverse),
    )
    after = None if start_after is None else text_bytes("start_after", start_after)
    if cursor is not None and cursor != "":  # the REST API gives "" with the last page
        if start_after is not None:
            raise InvalidRequest("pass only one of cursor and start_after")
        after = cursors.decode(query, cursor)
    namespace._check_usable()
    namespace._meter.lists += 1
    if query.delimiter:
        keys, folders, last = _folders(namespace, query, after, size)
    else:
        folders = []
        keys, last = _page(namespace, query, after, size)
    done = last is None
    return ListResult(
        keys, done, None if last is None else cursors.encode(query, last), tuple(folders)
    )


def _page(
    namespace: Namespace, query: ListQuery, after: bytes | None, limit: int
) -> tuple[list[KeyInfo], bytes | None]:
    """Return the next keys, and the key to continue after; None at the end."""
    heads, last = heads_page(
        namespace._store._parts,
        namespace._store._parts.key_order,
        namespace._prefix + query.prefix,
        None if after is None else namespace._prefix + after,
        query.reverse,
        limit,
        limit + EXAMINE_KEYS,
    )
    namespace._check_usable()  # else it may have been deleted, and its keys, meanwhile
    return key_infos(heads, PREFIX_BYTES), None if last is None else last[PREFIX_BYTES:]


def _folders(
    namespace: Namespace, query: ListQuery, after: bytes | None, limit: int
) -> tuple[list[KeyInfo], list[str], bytes | None]:
    """Like _page, but group keys that contain the delimiter after the prefix into folders."""
    keys: list[KeyInfo] = []
    folders: list[str] = []
    delimiter = query.delimiter.decode()
    start = len(query.prefix.decode())
    while len(keys) + len(folders) < limit:
        room = min(limit - len(keys) - len(folders), FOLDER_KEYS)
        page, last = _page(namespace, query, after, room)
        for info in page:
            end = info.name.find(delimiter, start)
            if end >= 0:
                folder = info.name[: end + len(delimiter)]
                folders.append(folder)
                last = after = folder.encode() + (b"" if query.reverse else BEHIND)
                break  # the rest of the folder is jumped over
            keys.append(info)
        else:
            if last is None or not page:
                return keys, folders, last
            after = last
    return keys, folders, after


def count(namespace: Namespace, prefix: str) -> int:
    """Return how many living keys begin with a prefix."""
    start = text_bytes("prefix", prefix)
    namespace._check_usable()
    namespace._meter.lists += 1
    found = sum(1 for _ in namespace._store.keys(namespace._prefix + start))
    namespace._check_usable()
    return found


def size_of(store: Store, prefix: bytes) -> GroupSize:
    """Return the keys of the namespace with a prefix, and their bytes with values and metadata."""
    size = store.group_size(prefix)
    return size._replace(bytes=size.bytes - PREFIX_BYTES * size.keys)
