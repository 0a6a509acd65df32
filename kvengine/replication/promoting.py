"""A replica whose source is gone: it is opened without it, and becomes a store of its own.

Invariants:

* The source is not asked for anything.
* What holds nothing whole, or only some of the keys, is not taken for the store it follows.
"""

from __future__ import annotations

from typing import Any

from kvengine.engine.following import replica
from kvengine.engine.store import Store
from kvengine.errors import InvalidRequest, NotCaughtUp, ReplicaDiverged, UpstreamUnavailable
from kvengine.replication.network.messages import Source


def promote(path: Any, *, partial: bool = False) -> int:
    """Turn the replica in a folder into an independent, writable store; return its version.

    Its source is not needed.  The store has what the source had at that version, and nothing that
    the source wrote later.  If a Follower has the folder open, call its promote() instead.

    Args:
        path: the folder.
        partial: allow a replica of only some prefixes or namespaces.

    Raises:
        InvalidRequest: it is not a replica, or holds only some of the keys.
        NotCaughtUp: its first copy is not complete yet.
        StoreLocked: another process, such as its Follower, has it open without read_only=True.
        NotAStore: there is no store in the folder.
    """
    with Store(path, create=False, exclusive=True) as store:
        origin = store._parts.manifest.origin
        if origin is None:
            raise InvalidRequest(
                f"the store in {store.path} is not a replica, or was promoted before: it already "
                "accepts writes"
            )
        if origin.position is None:
            raise NotCaughtUp(
                f"the replica in {store.path} does not yet have a complete first copy of its source"
            )
        if not partial and (origin.prefixes, origin.keys) != ((b"",), ()):
            raise InvalidRequest(
                f"the replica in {store.path} holds only some of the keys of its source; to "
                "promote it anyway, use partial=True (--partial)"
            )
        version = max(origin.position, store._parts.applied_version)
        replica.promote(store._parts, version)
        store.sync()
        return version


def checked_uuid(source: Source, store: Store, *, now: bool) -> str | None:
    """Return which store a source is, 32 hex digits; None: it does not answer, and `now` is False.

    An existing replica can be opened and promoted while its source is unavailable.

    Raises:
        ReplicaDiverged: the replica follows another one.
        UpstreamUnavailable: the source does not answer.
    """
    try:
        uuid = bytes(getattr(source, "uuid", b"")).hex()
    except (UpstreamUnavailable, OSError):
        if now:
            raise
        return None
    origin = store._parts.manifest.origin
    if origin is not None and origin.uuid != uuid:
        raise ReplicaDiverged(
            f"the replica in {store.path} follows store {origin.uuid}, not {uuid}; give "
            "another folder, or start_over=True"
        )
    return uuid
