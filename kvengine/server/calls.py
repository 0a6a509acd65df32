"""Which methods of a database and its namespaces can be called over the network.

    POST /v1/db/METHOD      POST /v1/ns/ID/METHOD      body and answer: client/packing.py

The body has [arguments, named arguments], the answer what the method returns.  A method that gives
an iterator is answered with a stream: 4 bytes of size and a message with an item, again and again;
a size of 0 is a heartbeat, and [] as a message the end, [error] the end with an error.

Invariants:

* What is not listed here can't be called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

from kvengine.client.failures import encode_error
from kvengine.client.packing import pack
from kvengine.database.database import Database
from kvengine.errors import KvError
from kvengine.namespace.namespace import Namespace
from kvengine.server.going_on import Write

HEARTBEAT_S = 1.0
HEARTBEAT = bytes(4)
# Of streams that do not wait: so many read an item at a moment, before its size is known.
ITEMS_AT_ONCE = threading.BoundedSemaphore(2)
COPIES = 2  # of a value: as it was read, and in the message


class Call(NamedTuple):
    """A method that can be called.

    action: as the figures count it.
    write, admin: what a token must allow.
    writes_key: it writes the key that is its first argument.
    """

    action: str
    write: bool = False
    admin: bool = False
    writes_key: bool = False


NAMESPACE_CALLS = {
    "get": Call("read"),
    "get_with_metadata": Call("read"),
    "get_metadata": Call("read"),
    "put": Call("write", write=True, writes_key=True),
    "delete": Call("delete", write=True),
    "touch": Call("write", write=True, writes_key=True),
    "increment": Call("write", write=True, writes_key=True),
    "put_many": Call("write", write=True),
    "delete_many": Call("delete", write=True),
    "delete_prefix": Call("delete", write=True),
    "list": Call("list"),
    "count": Call("list"),
    "size": Call("list"),
    "title": Call("list"),
}
NAMESPACE_STREAMS = {"watch": Call("watch"), "history": Call("read")}
DATABASE_CALLS = {
    "namespace": Call("admin"),
    "namespace_by_id": Call("admin"),
    "namespaces": Call("admin"),
    "create_namespace": Call("admin", write=True),
    "rename": Call("admin", write=True),
    "delete": Call("admin", write=True),
    "wait_for_removals": Call("admin", admin=True),
    "usage": Call("admin", admin=True),
    "sync": Call("admin"),
}
DATABASE_STREAMS = {"tail": Call("watch")}


def namespace_call(namespace: Namespace, method: str, args: list[Any], named: Any) -> bytes:
    """Return the message of what a method of a namespace returns."""
    if method == "title":
        return pack(namespace.title)
    return pack(getattr(namespace, method)(*args, **named))


def iterated(begin: Callable[[int | None], tuple[Iterator[Any], int]], write: Write) -> None:
    """Write the items of an iterator, and heartbeats while there are none.

    Args:
        begin: is given the version behind which to go on; returns an iterator that ends after a
            second without an item, and the version behind which to go on then; -1: it is the end.
        write: takes the bytes.
    """
    after: int | None = None
    try:
        while True:
            found, after = begin(after)
            while (item := _next(found, write, waits=after >= 0)) is not None:
                if after >= 0:
                    after = max(after, item.version)
                data, item = _sized([item]), None  # what waits is the message alone
                write(data)
            if after < 0:
                break
            write(HEARTBEAT)
        write(_sized([]))
    except KvError as error:
        write(_sized(encode_error(error)))


def _next(found: Iterator[Any], write: Write, *, waits: bool) -> Any:
    """Return the next item, for which there is memory; None: there is none."""
    with nullcontext() if waits else ITEMS_AT_ONCE:
        item = next(found, None)
        value = getattr(item, "value", None)
        if isinstance(value, bytes):
            write.reserve(COPIES * len(value))
    return item


def _sized(item: Any) -> bytes:
    data = pack(item)
    return len(data).to_bytes(4, "little") + data


def followed(
    start: Callable[..., Iterator[Any]], newest: Callable[[], int], named: dict[str, Any]
) -> Callable[[int | None], tuple[Iterator[Any], int]]:
    """Return what iterated() needs of a method that waits for changes.

    Args:
        start: the method; takes `after` and `timeout`.
        newest: tells the newest version.
        named: other arguments.
    """

    def begin(after: int | None) -> tuple[Iterator[Any], int]:
        version = newest()  # whatever is at or below it comes before the first wait
        first = named.get("after") if after is None else after
        first = version if first is None else first
        found = start(**{**named, "after": first, "timeout": HEARTBEAT_S})
        return found, max(first, version)

    return begin


def database_stream(
    db: Database, method: str, args: list[Any], named: dict[str, Any]
) -> Callable[[int | None], tuple[Iterator[Any], int]]:
    """Return what iterated() needs of a method of a database."""
    if named.pop("follow", False):
        named.setdefault("after", 0)
        return followed(
            lambda **options: db.tail(follow=True, **options), lambda: db.version, named
        )
    return lambda _: (db.tail(*args, **named), -1)


def namespace_stream(
    namespace: Namespace, method: str, args: list[Any], named: dict[str, Any]
) -> Callable[[int | None], tuple[Iterator[Any], int]]:
    """Return what iterated() needs of a method of a namespace."""
    if method == "watch":
        return followed(namespace.watch, lambda: namespace.store.version, named)
    return lambda _: (namespace.history(*args, **named), -1)
