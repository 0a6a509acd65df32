"""The work that keeps a store small and fast to open, and when it is due.

Invariants:

* Everything here runs as a job (see job_thread.py), one at a time.
* A job that fails changes nothing; what is due stays due.
"""

from __future__ import annotations

import contextlib

from kvengine.engine.jobs import checkpoint, compaction, compactor
from kvengine.engine.jobs.compaction import PAUSES_MAX_S, excess
from kvengine.engine.jobs.job_thread import logger
from kvengine.engine.log import segment_file
from kvengine.engine.log.manifest import SegmentRow
from kvengine.engine.parts import StoreParts
from kvengine.entry import Stats
from kvengine.errors import StorageError, StorageFull, StoreReadOnly
from kvengine.file.system import memory_is_low

REPLAY_BYTES_MAX = 1 << 30  # read back in about a tenth of a second
WANTED_MS = 100  # a process that waits for the lease says so every few milliseconds
KEY_MEMORY_MAX = 64 << 20  # bytes of new keys that await their run; above, writers are slowed down


def work(store: StoreParts) -> None:
    """Do whatever is due."""
    if store.refusal is not None:
        return
    store.commits.check_present()
    if memory_is_low(store.log_bytes()):
        store.segment_table.forget_residency()
    try:
        _work(store)
    except StorageFull:
        if store.options.compaction != "auto" or not make_space(store):
            raise
    finally:
        store.keep_reserve()


def _work(store: StoreParts) -> None:
    close_filled_segments(store)
    store.flush_keys()
    if store.options.compaction == "auto":
        compact_in_background(store)
    if must_replay(store, replay_limit(store), REPLAY_BYTES_MAX):
        checkpoint.write_checkpoint(store)


def compact_in_background(store: StoreParts) -> None:
    """Carry out plans until nothing is worth doing."""
    if active_is_mostly_dead(store):
        store.end_active_segment()
        close_filled_segments(store)
    store.is_compacting_in_background = True
    try:
        while plan := compactor.plan_next(store):
            compactor.compact(store, plan)
            store.maintenance.check()
            if store.jobs_are_wanted(WANTED_MS):
                break  # another process waits for the lease; continue in a second
    finally:
        store.is_compacting_in_background = False


def active_is_mostly_dead(store: StoreParts) -> bool:
    """True if the segment being written holds the garbage that makes the store too large.

    Small stores would otherwise grow to the size of a segment before they are compacted.
    """
    if not store.has_open_segment:
        return False
    _, end, live, _, _ = store.segment_table.counters(store.rows[-1].id)
    garbage = end - segment_file.HEADER_BYTES - live
    all_garbage = store.log_bytes() - store.segment_table.total_live_bytes()
    return is_too_large(store) and 2 * garbage > all_garbage


def is_due(store: StoreParts) -> bool:
    """True if there is work that can't wait for the end of the segment."""
    order = store.key_order
    return (
        order.is_full()
        or order.is_mostly_dead(store.key_index.count)
        or (store.options.compaction == "auto" and is_too_large(store))
    )


def is_too_large(store: StoreParts) -> bool:
    """True if dead records take more space than the options allow."""
    total, live = store.log_bytes(), store.segment_table.total_live_bytes()
    garbage_min = compaction.garbage_bytes_min(store.options.segment_bytes)
    return total - live >= garbage_min and total > store.options.space_target * live


def pace(store: StoreParts) -> None:
    """Let the next writes wait a moment if background work can't keep up: dead records, new keys.

    Called once for a few megabytes that are written.  While the writer sleeps, the background
    thread has the GIL and the writer's lock; while it compacts it asks for more, see pacing.pyx.
    """
    if store.key_order.memory_bytes() > KEY_MEMORY_MAX:
        store.pause_s = PAUSES_MAX_S
    elif store.options.compaction == "auto":
        live = store.segment_table.total_live_bytes()
        store.pause_s = max(store.pause_s, PAUSES_MAX_S * excess(store.log_bytes(), live))


def must_replay(store: StoreParts, changes_max: int, bytes_max: int) -> bool:
    """True if a recovery now would have to replay more than this."""
    return (
        store.applied_version - store.saved_version >= changes_max
        or store.taken_in - store.saved_taken_in >= bytes_max
    )


def replay_limit(store: StoreParts) -> int:
    """Return how many changes a recovery may have to replay before the index is saved again.

    A large index is saved less often, so that saving costs a bounded share of what is written.
    """
    return max(store.options.checkpoint_records, store.key_index.count // 10)


def close_filled_segments(store: StoreParts) -> None:
    """Bring segments that are full to disk and let the manifest say how long they are."""
    filled = [row for row in store.rows[:-1] if row.size_bytes is None]
    if not filled:
        return
    store.commits.sync()
    closed: list[SegmentRow] = []
    for row in filled:
        _, end, _, _, _ = store.segment_table.counters(row.id)
        file = store.segment_table.segment_file(row.id)
        if store.directory.size(segment_file.file_name(row.id)) > end:
            file.shorten(end)
            store.commits.sync_file(file)
        closed.append(row.closed(end))

    def finish() -> None:
        store.swap_rows(filled, closed)
        files = [store.segment_table.segment_file(row.id) for row in closed]
        store.commits.close_descriptors(files)

    store.replace_manifest(finish, (filled, closed))


def save_rebuilt(store: StoreParts) -> None:
    """Put an index that was made again from the log in the place of what was not trusted."""
    old = store.manifest.key_runs
    try:
        checkpoint.save_index(store)
    except StorageError as error:
        logger.warning("could not save the rebuilt index: %s", error)
        return
    store.loose |= set(old)
    store.remove_loose()


def checkpoint_now(store: StoreParts) -> None:
    """Save the index, so that the next open has nothing to replay."""
    close_filled_segments(store)
    checkpoint.save_index(store)


def compact_fully(store: StoreParts, progress: compactor.Progress | None) -> int:
    """Merge all segments that hold dead records; return the bytes given back."""
    before = store.log_bytes()
    try:
        _compact_everything(store, progress)
    except StorageFull:
        if not make_space(store):
            raise
        with contextlib.suppress(StorageFull):  # it has given back what it could
            _compact_everything(store, progress)
    finally:
        store.keep_reserve()
    return max(before - store.log_bytes(), 0)


def _compact_everything(store: StoreParts, progress: compactor.Progress | None) -> None:
    store.end_active_segment()
    close_filled_segments(store)
    checkpoint.save_index(store)
    plan = compactor.plan_everything(store)
    if plan is not None:
        compactor.compact(store, plan, progress)
    checkpoint.save_index(store)
    store.merge_keys(everything=True)


def make_space(store: StoreParts) -> bool:
    """On a full disk: compact segment by segment, those first that need least room for it.

    Returns False if it has given nothing back though there are dead records, or has no disk.
    """
    if not store.reserve.is_real:
        return False
    store.reserve.give()
    store.is_disk_low = True
    before = store.log_bytes()
    try:
        store.end_active_segment()
        close_filled_segments(store)
        for plan in compactor.plans_on_a_full_disk(store):
            compactor.compact(store, plan)
            store.maintenance.check()
    except StorageFull as error:
        logger.warning("compaction on a full disk failed: %s", error)
        return store.log_bytes() < before
    return True


def stats(store: StoreParts) -> Stats:
    """Return figures about a store."""
    live, total = store.segment_table.total_live_bytes(), store.log_bytes()
    both = (store.maintenance.failures, store.interval_sync.failures)
    newest = max(both, key=lambda failures: failures.last_error_at or 0.0)
    return Stats(
        keys=store.key_index.count,
        version=store.applied_version,
        live_bytes=live,
        log_bytes=total,
        disk_bytes=disk_bytes(store),
        segments=len(store.rows),
        index_bytes=store.key_index.memory_bytes(),
        key_runs=len(store.key_order.run_names()),
        space_amplification=total / live if live else 1.0,
        durability=store.options.durability,
        read_only=store.refusal is not None or store.follows is not None,
        failures=sum(failures.consecutive for failures in both),
        last_error=newest.last_error,
        last_error_at=newest.last_error_at,
    )


def disk_bytes(store: StoreParts) -> int:
    """Return the bytes of the blocks that the files of a store occupy."""
    try:
        return sum(store.directory.allocated(name) for name in store.directory.names())
    except StorageError:  # the folder was removed
        return 0


def read_only_error() -> StoreReadOnly:
    """Return what a write to a store opened with read_only=True raises."""
    return StoreReadOnly("the store was opened with read_only=True")


def replica_error(store: StoreParts) -> StoreReadOnly:
    """Return what a write of a user to a replica raises."""
    return StoreReadOnly(
        f"the store in {store.directory.path} is a replica: it takes changes only from the store "
        "that it follows, until Follower.promote() or kvengine.promote()"
    )
