"""The methods of a database and its namespaces that can be called over the network.

    POST /v1/db/METHOD      POST /v1/ns/ID/METHOD      body and answer: client/packing.py

The body is [arguments, named arguments]; the response is what the method returns.  A method that
returns an iterator is answered with a stream of messages, each with one item and preceded by 4
bytes of size.  Size 0 is a heartbeat; the message [] ends the stream, and [error] ends it with an
error.

Invariants:

* Only the methods listed here can be called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kvengine.client.failures import encode_error
from kvengine.client.packing import pack
from kvengine.database.database import Database
from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.errors import KvError
from kvengine.namespace.layout import DATA
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.namespace import Namespace
from kvengine.namespace.watching import key_change
from kvengine.server.http.body.streaming import Write

HEARTBEAT_S = 1.0
HEARTBEAT = bytes(4)
END = object()
COPIES = 2  # of a value: the original, and the one in the message


class Call(NamedTuple):
    """A method that can be called.

    action: its name in the figures.
    write, admin: the permissions that it requires.
    writes_key: it writes the key in its first argument.
    """

    action: str
    write: bool = False
    admin: bool = False
    writes_key: bool = False


NAMESPACE_CALLS = {
    "get": Call("read"),
    "get_with_metadata": Call("read"),
    "get_metadata": Call("read"),
    "ttl": Call("read"),
    "put": Call("write", write=True, writes_key=True),
    "delete": Call("delete", write=True),
    "touch": Call("write", write=True, writes_key=True),
    "persist": Call("write", write=True, writes_key=True),
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
    "set_bounds": Call("admin", write=True),
    "rename": Call("admin", write=True),
    "delete": Call("admin", write=True),
    "wait_for_removals": Call("admin", admin=True),
    "usage": Call("admin", admin=True),
    "sync": Call("admin"),
}
DATABASE_STREAMS = {"tail": Call("watch")}


def namespace_call(namespace: Namespace, method: str, args: list[Any], named: Any) -> bytes:
    """Return the packed result of a method of a namespace."""
    if method == "title":
        return pack(namespace.title)
    return pack(getattr(namespace, method)(*args, **named))


class Stream(NamedTuple):
    """The items of a method that returns an iterator.

    items: yields None when there is no item at present.
    wait: returns when there may be more items, or after a timeout.
    """

    items: Iterator[Any]
    wait: Callable[[], object] = lambda: None


def iterated(begin: Callable[[], Stream], write: Write) -> None:
    """Write the items of a stream, and heartbeats while there are none.

    Args:
        begin: returns the stream.
        write: of the answer.
    """
    try:
        _write_items(begin(), write)
        end: Any = []
    except KvError as error:
        end = encode_error(error)
    write(_sized(end))  # outside of the function that read the items, so that they are freed


def _write_items(stream: Stream, write: Write) -> None:
    wrote = time.monotonic()
    while (item := _next(stream.items, write)) is not END:
        if item is not None:
            data, item = _sized([item]), None  # frees the item while write() waits
        else:
            stream.wait()
            if time.monotonic() < wrote + 0.9 * HEARTBEAT_S:
                continue
            data = HEARTBEAT
        write(data)
        wrote = time.monotonic()


def _next(items: Iterator[Any], write: Write) -> Any:
    """Return the next item after reserving memory for it; END: there are no more."""
    with write.making:
        item = next(items, END)
        value = getattr(item, "value", None)
        if isinstance(value, bytes):
            write.reserve(COPIES * len(value))
    return item


def _sized(item: Any) -> bytes:
    data = pack(item)
    return len(data).to_bytes(4, "little") + data


def followed(
    store: Store, after: int | None, prefix: bytes, shown: Callable[[Change], Any]
) -> Stream:
    """Return a stream of the changes of a store after a version; None: changes from now on.

    It does not wait while it reads, so it does not block other readers of its token.

    Args:
        shown: returns the item of a change, or None to skip it.
    """
    tail = store._parts.tail_from(store.version if after is None else after, prefix)

    def items() -> Iterator[Any]:
        while True:
            for change in tail.changes():
                if (item := shown(change)) is not None:
                    yield item
            yield None

    return Stream(items(), lambda: store.wait(tail.seen, HEARTBEAT_S))


def database_stream(
    db: Database, method: str, args: list[Any], named: dict[str, Any]
) -> Callable[[], Stream]:
    """Return the `begin` of iterated() for a method of a database."""
    if named.pop("follow", False):
        return lambda: followed(db.store, named.get("after", 0), DATA, db._shown)
    return lambda: Stream(db.tail(*args, **named))


def namespace_stream(
    namespace: Namespace, method: str, args: list[Any], named: dict[str, Any]
) -> Callable[[], Stream]:
    """Return the `begin` of iterated() for a method of a namespace."""
    if method != "watch":
        return lambda: Stream(namespace.history(*args, **named))

    def begin() -> Stream:
        namespace._check_usable()
        prefix = namespace._prefix + text_bytes("prefix", named.get("prefix", ""))
        stream = followed(namespace._store, named.get("after"), prefix, key_change)

        def wait() -> None:
            namespace._check_usable()  # raises if it was deleted
            stream.wait()

        return stream._replace(wait=wait)

    return begin
