"""What a folder holds of a source, and as whom its source knows it.

Invariants:

* Nothing that a user wrote is taken for what may be replaced.
* One process alone writes to a replica: two would take the same changes over, each in its way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvengine.engine.following import replica
from kvengine.engine.following.consumer import Consumer
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.log.manifest import Origin
from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.errors import InvalidRequest, StoreBusy
from kvengine.replication.local_source import LocalSource
from kvengine.replication.network.messages import Source
from kvengine.replication.selection import Selection

FORKED = (
    "the replica was opened before a fork, and belongs to the parent process, which continues "
    "to follow; read it here with Store(path, read_only=True), or open it after the fork"
)


def open_alone(path: Any, options: dict[str, Any], *, start_over: bool) -> Store:
    """Open the store that is to be a replica, or is one, and keep others from writing to it."""
    if path is None:
        return Store.in_memory(**{**options, "durability": "os"})
    if start_over:
        replica.clear_folder(path)
    return Store(path, **{**options, "exclusive": True})


def only_read(store: Store) -> None:
    """In a forked child, after the store's own handler: open it read-only at the first use."""
    store._parts.options = replace(store._parts.options, read_only=True, exclusive=False)


def check_not_inside(lock: OwnedLock) -> None:
    """Refuse a call that would have to wait for what it has interrupted.

    Raises:
        StoreBusy: this thread is in the middle of a change of the replica.
    """
    if lock.is_mine():
        raise StoreBusy(
            "called from a signal handler or a finalizer that interrupted this very replica in "
            "the same thread: do it afterwards"
        )


def consumer_of(source: Source, name: str | None) -> Consumer[Change] | None:
    """Return the consumer as which a replica is known to its source."""
    if name is None:
        return None
    if not isinstance(source, LocalSource):
        raise InvalidRequest("`name` works only with a source in this process")
    return source.store.consumer(name)


def position_in(store: Store, uuid: str | None, wanted: Selection) -> int | None:
    """Return the version of its source that a store holds; None: nothing whole.

    A new store is a replica from then on.

    Raises:
        InvalidRequest: it is not a replica, or a replica of other keys.
    """
    origin = store._parts.manifest.origin
    if origin is None:
        if store._parts.applied_version:
            raise InvalidRequest(
                f"the store in {store.path} is not a replica, or was promoted: following would "
                "overwrite it; give another folder, or start_over=True"
            )
        replica.begin(store._parts, Origin(str(uuid), None, wanted.prefixes, wanted.keys))
        return None
    if (origin.prefixes, origin.keys) != wanted:
        raise InvalidRequest(
            f"the replica in {store.path} holds other keys than those selected; give "
            "another folder, or start_over=True"
        )
    return None if origin.position is None else max(origin.position, store._parts.applied_version)
