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
from kvengine.replication.messages import Source


def promote(path: Any, *, partial: bool = False) -> int:
    """Let users write to the replica in a folder, which follows nobody then; return its version.

    Its source is not needed.  It holds what the source held at that version; what the source wrote
    after that is not in it.  A Follower that has the folder open is promoted by its own promote().

    Args:
        path: the folder.
        partial: also if it holds only some prefixes or namespaces of its source.

    Raises:
        InvalidRequest: it is no replica, or holds only some of the keys.
        NotCaughtUp: nothing whole has come to it yet.
        StoreLocked: another process, such as its Follower, has it open, not with read_only=True.
        NotAStore: there is no store in the folder.
    """
    with Store(path, create=False, exclusive=True) as store:
        origin = store.manifest.origin
        if origin is None:
            raise InvalidRequest(
                f"the store in {store.path} is no replica, or was promoted before: it is written "
                "to as it is"
            )
        if origin.position is None:
            raise NotCaughtUp(
                f"the replica in {store.path} has not caught up with its source for the first time "
                "yet: there is nothing whole in it"
            )
        if not partial and (origin.prefixes, origin.keys) != ((b"",), ()):
            raise InvalidRequest(
                f"the replica in {store.path} holds only some of the keys of its source: to go on "
                "with these, give partial=True (--partial)"
            )
        version = max(origin.position, store.applied_version)
        replica.promote(store, version)
        store.sync()
        return version


def meet(source: Source, store: Store, *, now: bool) -> str | None:
    """Return which store a source is, 32 hex digits; None: it does not answer, and need not `now`.

    Who has a replica already can open it, and promote it, while its source is away.

    Raises:
        ReplicaDiverged: the replica follows another one.
        UpstreamUnavailable: it does not answer.
    """
    try:
        uuid = bytes(getattr(source, "uuid", b"")).hex()
    except (UpstreamUnavailable, OSError):
        if now:
            raise
        return None
    origin = store.manifest.origin
    if origin is not None and origin.uuid != uuid:
        raise ReplicaDiverged(
            f"the replica in {store.path} follows store {origin.uuid}, not {uuid}; give "
            "another folder, or anew=True"
        )
    return uuid
