"""The digest of a store: the first request costs a scan; after that it is updated with each change.

Invariants:

* A digest belongs to one version, even while other processes write.
* Until the digest of a whole store is requested, it costs changes nothing.
"""

from __future__ import annotations

import math

from kvengine.engine import opening
from kvengine.engine.following.digest import DigestSum
from kvengine.engine.following.digest_scan import RangeWalk
from kvengine.engine.jobs.job_lease import JobsLost
from kvengine.engine.open_store import OpenStore
from kvengine.entry import Digest
from kvengine.errors import InvalidRequest

MARGIN_S = 60  # clocks of two machines differ; what expires within it is left out


def digest(store: OpenStore, start: bytes, end: bytes | None, moment: int | None) -> Digest:
    """Return the digest of a range of keys; see Store.digest()."""
    if moment is None:
        moment = math.ceil(store.options.clock.time()) + MARGIN_S
    if isinstance(moment, bool) or not isinstance(moment, int):
        raise InvalidRequest(f"moment must be a whole second since 1970, not {moment!r}")
    if not start and end is None and not store.options.read_only:
        return _of_everything(store, moment)
    if not store.is_frozen:
        before, table = store.version, store.segment_table
        found = RangeWalk(store, store.key_order, start, end).summed()
        if store.version == before and store.segment_table is table:
            return Digest(before, moment, *found.total(moment))
        with opening.snapshot(store) as frozen:  # others write; hold still
            return digest(frozen, start, end, moment)
    found = RangeWalk(store, store.key_order, start, end).summed()
    return Digest(store.version, moment, *found.total(moment))


def _of_everything(store: OpenStore, moment: int) -> Digest:
    """Return the digest that goes along with the changes; begin it if there is none."""
    return store.consistent_read(lambda: _current(store, moment)) or _begin(store, moment)


def _current(store: OpenStore, moment: int) -> Digest | None:
    found = store.digest_sum
    if found is None or found is not store.digest_changes or found.stale:
        return None  # there is none, or not of all changes since
    if store.applied_version < found.counted_to:
        return None
    return Digest(store.applied_version, moment, *found.total(moment))


def _begin(store: OpenStore, moment: int) -> Digest:
    """Scan a snapshot of the store, and count what changes after it."""
    changes, frozen = store.maintenance.run(lambda: _count_from_here(store))
    with frozen:
        found = RangeWalk(frozen, frozen.key_order, b"", None).summed()
        version = frozen.applied_version
    total = found.total(moment)
    changes.merge(found)
    if store.digest_changes is changes:
        store.digest_sum = changes
    return Digest(version, moment, *total)


def _count_from_here(store: OpenStore) -> tuple[DigestSum, OpenStore]:
    """Return a sum that counts every change from now on, and the store as it is now.

    This is a job, so no compaction removes records of the snapshot meanwhile.

    Raises:
        JobsLost: another process did, since it took over the jobs.
    """
    changes = DigestSum()
    store.keep_up()
    version = store.count_changes(changes)
    frozen = opening.snapshot(store, version)
    if frozen.manifest.generation != store.manifest.generation:
        frozen.close()
        raise JobsLost("another process has taken over the jobs of the store")
    if frozen.applied_version != version:
        frozen.close()
        raise InvalidRequest("can't compute a digest while the writer of the store is starting")
    return changes, frozen
