"""Watching: changes as they happen, and the history of a key.

Invariants:

* Changes come in the order of their versions, each exactly once: those written while the watcher
  was busy are read from the log.
* A waiting watcher sleeps until a write wakes it.
* An expiration is not a change: nothing is written then.  `expiration` says when it will come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvengine.entry import Change
from kvengine.namespace.interface.results import KeyChange
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.values import decode_metadata

if TYPE_CHECKING:
    from kvengine.namespace.namespace import Namespace


def watch(
    namespace: Namespace, prefix: str, after: int | None, timeout: float | None
) -> Iterator[KeyChange]:
    """Return an iterator over changes; Namespace.watch has the arguments."""
    start = text_bytes("prefix", prefix)
    namespace._check_usable()
    store = namespace._store
    first = store.version if after is None else after
    return _watch(namespace, store._parts.follow(first, namespace._prefix + start, timeout))


def _watch(namespace: Namespace, found: Iterator[Change | None]) -> Iterator[KeyChange]:
    for change in found:
        if change is None:
            namespace._check_usable()
        else:
            yield key_change(change)


def history(namespace: Namespace, key: str) -> Iterator[KeyChange]:
    """Return an iterator over what the log still has of a key."""
    name = namespace._name(key)
    namespace._check_usable()
    return map(key_change, namespace._store.history(name))


def key_change(change: Change) -> KeyChange:
    """Return a change of the log as a namespace shows it."""
    is_put = change.kind == "put"
    return KeyChange(
        change.version,
        change.kind,
        change.key[PREFIX_BYTES:].decode(),
        change.value if is_put else None,
        decode_metadata(change.metadata),
        None if change.expires_at is None else math.ceil(change.expires_at),
    )
