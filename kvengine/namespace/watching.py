"""Watching: changes as they come, and the past of a key.

Invariants:

* Changes come in the order of their versions, each once, none left out: what was written while
  the watcher was busy is read from the log.
* A watcher that waits does nothing; a write wakes it.
* An expiry is no change: nobody writes anything then.  `expiration` says when it will come.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.errors import InvalidRequest, InvalidType
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.results import KeyChange
from kvengine.namespace.values import decode_metadata

if TYPE_CHECKING:
    from kvengine.namespace.namespace import Namespace


def changes(
    store: Store, prefix: bytes, after: int, timeout: float | None
) -> Iterator[Change | None]:
    """Yield the changes of keys with a prefix above a version, and wait for more.

    Yields None each time that it has looked, so that the caller can look for other things.  Ends
    when nothing came for `timeout` seconds; None: never.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    seen = after
    while True:
        rest = None if deadline is None else max(0.0, deadline - time.monotonic())
        newest = store.wait(seen, rest)
        if newest > seen:
            for change in store.tail(seen, prefix=prefix):
                yield change
                newest = max(newest, change.version)
                if timeout is not None:
                    deadline = time.monotonic() + timeout
            seen = newest
            yield None
        elif rest is not None:
            return


def watch(
    namespace: Namespace, prefix: str, after: int | None, timeout: float | None
) -> Iterator[KeyChange]:
    """Return an iterator over changes; Namespace.watch has the arguments."""
    start = text_bytes("prefix", prefix)
    if after is not None and (isinstance(after, bool) or not isinstance(after, int)):
        raise InvalidType(f"after must be a version, not {type(after).__name__}")
    if timeout is not None and not timeout >= 0:
        raise InvalidRequest(f"timeout must be seconds or None, not {timeout!r}")
    namespace.check_usable()
    store = namespace.store
    first = store.version if after is None else after
    if first < 0:
        raise InvalidRequest(f"after must be a version, not {after}")
    found = changes(store, namespace.prefix + start, first, timeout)
    return _watch(namespace, found)


def _watch(namespace: Namespace, found: Iterator[Change | None]) -> Iterator[KeyChange]:
    for change in found:
        if change is None:
            namespace.check_usable()
        else:
            yield key_change(change)


def history(namespace: Namespace, key: str) -> Iterator[KeyChange]:
    """Return an iterator over what the log still has of a key."""
    name = namespace.name(key)
    namespace.check_usable()
    return map(key_change, namespace.store.history(name))


def key_change(change: Change) -> KeyChange:
    """Return a change of the log as a namespace shows it."""
    is_put = change.kind == "put"
    return KeyChange(
        change.version,
        change.kind,
        change.key[PREFIX_BYTES:].decode(),
        change.value if is_put else None,
        decode_metadata(change.metadata),
        None if change.expires_at is None else int(change.expires_at),
    )
