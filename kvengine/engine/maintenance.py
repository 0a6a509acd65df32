"""Background work of a store: what must be done some time, by one thread, one job after another.

Invariants:

* The thread starts with the first work that needs it, so small stores have none.
* It refers to the store weakly: a store that nobody holds any more goes away.
* A job that fails changes nothing; it is tried again later, and its error is kept for stats.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from typing import TYPE_CHECKING

from kvengine.engine import checkpoint, compaction, compactor, segment_file
from kvengine.engine.manifest import SegmentRow
from kvengine.entry import Stats
from kvengine.errors import KvError, StorageError, StoreReadOnly
from kvengine.file.system import memory_is_scarce

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts

logger = logging.getLogger("kvengine")
IDLE_S = 1.0  # how often the thread looks for work that nobody announced
RETRY_S = 5.0  # after a failed job
SPACE_LIMIT = 1.4  # log bytes / live bytes, above which writers are slowed down
REPLAY_BYTES_MAX = 1 << 30  # read back in about a tenth of a second
SLACK_BYTES = 2 << 20  # whatever the ratio
PAUSE_S = 0.05  # for each few megabytes written, when the log is this share above the limit:
EXCESS_SHARE = 0.2  # of the live bytes
PAUSE_MAX_S = 0.1
KEY_MEMORY_MAX = 64 << 20  # bytes of new keys that await their run; above, writers are slowed down


class Maintenance:
    """The background thread of one store."""

    def __init__(self, store: StoreParts) -> None:
        self._store = weakref.ref(store)
        self._news = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.last_error: BaseException | None = None

    def wake(self) -> None:
        """There may be work; start the thread if there is none yet."""
        self._news.set()
        if self._thread is None and not self._stopping:
            thread = threading.Thread(
                target=_run, args=(self, self._store, self._news), name="kvengine", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # the program ends: the next open does it
                thread.start()
                self._thread = thread

    def stop(self) -> None:
        """Return when the thread has ended."""
        self._stopping = True
        self._news.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def is_stopping(self) -> bool:
        """True once stop() was called."""
        return self._stopping


def _run(
    maintenance: Maintenance, reference: weakref.ref[StoreParts], news: threading.Event
) -> None:
    wait_s = IDLE_S
    while not maintenance.is_stopping:
        news.wait(wait_s)
        news.clear()
        store = reference()
        if store is None or maintenance.is_stopping:
            return
        wait_s = IDLE_S
        if store.options.durability == "interval":
            wait_s = store.options.sync_interval_s
        try:
            with store.jobs:
                if maintenance.is_stopping:
                    return
                work(store)
        except (KvError, OSError, MemoryError) as error:
            maintenance.last_error = error
            logger.warning("background work failed, will be tried again: %s", error)
            wait_s = RETRY_S
        del store


def work(store: StoreParts) -> None:
    """Do whatever is due; the caller holds the job lock."""
    if store.options.durability == "interval":
        store.commits.sync()
    if store.refusal is not None:
        return
    store.commits.check_present()
    if memory_is_scarce(log_bytes(store)):
        store.segment_table.forget_residency()
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
        while not store.maintenance.is_stopping:
            plan = compactor.plan_next(store)
            if plan is None:
                break
            compactor.compact(store, plan)
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
    all_garbage = log_bytes(store) - store.segment_table.total_live_bytes()
    return is_too_large(store) and 2 * garbage > all_garbage


def is_due(store: StoreParts) -> bool:
    """True if there is work that can't wait for the end of the segment."""
    return store.key_order.is_full() or (store.options.compaction == "auto" and is_too_large(store))


def is_too_large(store: StoreParts) -> bool:
    """True if dead records take more space than the options allow."""
    total, live = log_bytes(store), store.segment_table.total_live_bytes()
    garbage_min = compaction.garbage_bytes_min(store.options.segment_bytes)
    return total - live >= garbage_min and total > store.options.space_target * live


def pace(store: StoreParts) -> None:
    """Let the next write wait a moment if background work can't keep up: dead records, new keys.

    Called once for a few megabytes that are written.  While the writer sleeps, the background
    thread has the GIL and the writer's lock.
    """
    if store.key_order.memory_bytes() > KEY_MEMORY_MAX:
        store.pause_s = PAUSE_MAX_S
    if store.options.compaction != "auto" or store.pause_s:
        return
    total, live = log_bytes(store), store.segment_table.total_live_bytes()
    excess = total - max(SPACE_LIMIT * live, live + SLACK_BYTES)
    if excess > 0:
        share = excess / (EXCESS_SHARE * live + SLACK_BYTES)
        store.pause_s = min(PAUSE_S * share, PAUSE_MAX_S)


def must_replay(store: StoreParts, changes_max: int, bytes_max: int) -> bool:
    """True if a recovery now would have to replay more than this."""
    return (
        store.applied_version - store.saved_version >= changes_max
        or store.commits.appended - store.saved_appended >= bytes_max
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
        if file.size_bytes > end:
            file.shorten(end)
            store.commits.sync_file(file)
        closed.append(row.closed(end))
    store.swap_rows(filled, closed)
    store.replace_manifest()
    for row in closed:
        store.segment_table.segment_file(row.id).close_descriptor()


def save_rebuilt(store: StoreParts) -> None:
    """Put an index that was made again from the log in the place of what was not trusted."""
    old = store.manifest.key_runs
    with store.jobs:
        try:
            while not checkpoint.write_checkpoint(store):
                pass
        except StorageError as error:
            logger.warning("could not save the rebuilt index: %s", error)
            return
        for name in set(old) - set(store.manifest.key_runs):
            store.remove_file(name)


def compact_fully(store: StoreParts, progress: compactor.Progress | None) -> int:
    """Merge all segments that hold dead records; return the bytes given back."""
    with store.jobs:
        before = log_bytes(store)
        store.end_active_segment()
        close_filled_segments(store)
        while not checkpoint.write_checkpoint(store):
            pass
        plan = compactor.plan_everything(store)
        if plan is not None:
            compactor.compact(store, plan, progress)
        while not checkpoint.write_checkpoint(store):
            pass
        store.merge_keys(everything=True)
        return max(before - log_bytes(store), 0)


def log_bytes(store: StoreParts) -> int:
    """Return the bytes of all records."""
    ends = [store.segment_table.counters(row.id)[1] for row in list(store.rows)]
    return sum(ends) - segment_file.HEADER_BYTES * len(ends)


def stats(store: StoreParts) -> Stats:
    """Return figures about a store."""
    live, total = store.segment_table.total_live_bytes(), log_bytes(store)
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
        "that it follows, until Follower.promote()"
    )
