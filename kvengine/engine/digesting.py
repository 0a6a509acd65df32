"""The digest of a store: asked for once it costs a scan, from then on it goes along.

Invariants:

* A digest is that of one version, even while others write.
* Until somebody asks for the digest of a whole store, changes cost nothing more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kvengine.engine import opening
from kvengine.engine.digest import DigestSum
from kvengine.engine.digest_scan import RangeWalk
from kvengine.entry import Digest
from kvengine.errors import InvalidRequest

if TYPE_CHECKING:
    from kvengine.engine.store import Store

MARGIN_S = 60  # clocks of two machines differ; what expires within it is left out


def digest(store: Store, start: bytes, end: bytes | None, moment: int | None) -> Digest:
    """Return the digest of a range of keys; see Store.digest()."""
    if moment is None:
        moment = math.ceil(store.options.clock.time()) + MARGIN_S
    if isinstance(moment, bool) or not isinstance(moment, int):
        raise InvalidRequest(f"moment must be a whole second since 1970, not {moment!r}")
    if not start and end is None and not store.options.read_only:
        return _of_everything(store, moment)
    if not store.is_frozen:
        before = store.version
        found = RangeWalk(store, store.key_order, start, end).summed()
        if store.version == before:
            return Digest(before, moment, *found.total(moment))
        with store.snapshot() as frozen:  # others write; hold still
            return digest(frozen, start, end, moment)
    found = RangeWalk(store, store.key_order, start, end).summed()
    return Digest(store.version, moment, *found.total(moment))


def _of_everything(store: Store, moment: int) -> Digest:
    """Return the digest that goes along with the changes; begin it if there is none."""
    while True:
        found = store.undisturbed(lambda: _current(store, moment))
        if found is not None:
            return found
        _begin(store)


def _current(store: Store, moment: int) -> Digest | None:
    if store.digest_sum is None or store.digest_sum.stale:
        return None
    return Digest(store.applied_version, moment, *store.digest_sum.total(moment))


def _begin(store: Store) -> None:
    """Scan the store as of one moment, and count what changes from that moment on."""
    changes = DigestSum()
    store.check_usable()
    store.refuse_inside()
    with store.jobs.held():  # nobody else begins, and no compaction comes between
        version = store.count_changes(changes)
        with opening.snapshot(store, version) as frozen:
            if frozen.applied_version != version:
                raise InvalidRequest("the store can't be summed while its writer is starting")
            found = RangeWalk(frozen, frozen.key_order, b"", None).summed()
        changes.merge(found)
        if store.digest_changes is changes:
            store.digest_sum = changes
