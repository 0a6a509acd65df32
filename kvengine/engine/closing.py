"""Closing a store: leave the folder so that the next open is fast and correct.

Invariants:

* No acknowledged write depends on it: a store that is never closed loses nothing.
* Descriptors and mappings are released at once, except those that a view still needs.
* After a failed sync, the next open finds nothing that may not be on disk.
* One thread closes; another that tries meanwhile waits for it.  No writer and no job runs once the
  lock of the folder is released.
* An interrupted close leaves the store either open, with its lock, or closed except for the folder;
  the next close() continues from there.
"""

from __future__ import annotations

import contextlib

from kvengine.engine.access.reading import Reader
from kvengine.engine.index.saved_index import SavedIndex
from kvengine.engine.jobs import checkpoint, maintenance
from kvengine.engine.jobs.job_lease import STALE_MS
from kvengine.engine.jobs.job_thread import logger
from kvengine.engine.log.segment import SegmentTable
from kvengine.engine.order.key_order import KeyOrder
from kvengine.engine.parts import StoreParts
from kvengine.errors import (
    CorruptData,
    InvalidRequest,
    KvError,
    StorageError,
    StoreClosed,
    StoreLocked,
)
from kvengine.file.system import is_finalizing

REPLAY_AT_CLOSE_MAX = 8192  # changes; more are put into a saved index, fewer replayed in ~2 ms
REPLAY_BYTES_AT_CLOSE_MAX = 4 << 20


def close_store(store: StoreParts) -> None:
    """Close a store; closing it twice is not an error.

    Raises:
        InvalidRequest: this is called from inside a job of the store (by a finalizer, say).
        StoreBusy: this thread keeps writers out just now, and a job may wait for it.
        StorageError: something may not be on disk; the store is closed nevertheless.
    """
    store.notice_fork()
    if store.is_released:
        return
    if store.maintenance.is_inside():
        raise InvalidRequest("can't close a store from inside one of its own jobs")
    store.refuse_inside()
    with store.closing.held():
        if store.is_released:
            return
        try:
            _close(store)
        except BaseException:
            if not store.is_refused:  # it goes on
                store.maintenance.reopen()
                store.interval_sync.reopen()
            raise


def _close(store: StoreParts) -> None:
    try:
        if not store.is_settled:
            _settle(store)
    except (KvError, OSError):
        _release(store)
        raise
    _release(store)


def _release(store: StoreParts) -> None:
    """End everything and give the folder back; each step may be done again."""
    if store.is_settled or store.options.read_only or store.is_frozen:
        _end(store, last=False)
        return
    with contextlib.ExitStack() as stack:
        try:
            last = _is_last(store, stack)
            _end(store, last=last)
        except BaseException:
            if not store.is_refused and not store.options.exclusive:  # it goes on
                store.directory.share_lock()
            raise


def _is_last(store: StoreParts, stack: contextlib.ExitStack) -> bool:
    """True if no other process has the store open; until `stack` ends, none opens or closes it."""
    try:
        stack.enter_context(store.directory.opening())
        return store.directory.is_last()
    except (StorageError, StoreClosed, StoreLocked) as error:
        # The folder is gone, or a process has been opening the store for a minute.
        logger.warning("closed without checking for other processes: %s", error)
        return False


def _end(store: StoreParts, *, last: bool) -> None:
    if not store.is_settled:
        closed = StoreClosed("the store is closed")
        store.maintenance.close(closed)
        store.interval_sync.close()
        try:
            _stop(store, closed, last)
        except (KvError, OSError):
            if not store.is_refused:  # of a signal handler: the store goes on
                raise
            _give_back(store, last)
            raise
    _give_back(store, last)


def _stop(store: StoreParts, closed: StoreClosed, last: bool) -> None:
    """Stop writes, and leave the log as the next open expects it."""
    try:
        if not store.options.read_only and store.commits is not None:
            _end_log(store, closed, last)
    finally:
        if last and store.is_refused and store.control_page is not None:
            store.control_page.leave()
    store.refuse(closed)


def _give_back(store: StoreParts, last: bool) -> None:
    store.is_settled = True  # from here on another process may have the folder
    try:
        store.waiting.wake()
    finally:
        _release_mappings(store)
        store.directory.unlock(last)
        store.directory.close()
    store.is_released = True


def _release_mappings(store: StoreParts) -> None:
    """Give back the mappings, which take much address space; only views keep theirs."""
    table, nothing = SegmentTable(), Reader()
    # Any seed will do, and where opening was interrupted there is no other.
    nothing.configure(SavedIndex(table), table, 0, store.options.clock, store.options.verify)
    nothing.set_applied(store.applied_version)
    store.take_over(nothing, KeyOrder(1), [], store.manifest, 0)
    if store.commits is not None:
        store.commits.forget_files()


def _is_present(store: StoreParts) -> bool:
    """False if there is nothing to leave in order: the folder is gone, or another store's."""
    try:
        store.commits.check_present()
    except StorageError as error:
        logger.warning("closed without saving the index: %s", error)
        return False
    return True


def _settle(store: StoreParts) -> None:
    """Bring to disk what must be there, and save the index if the next open would be slow."""
    store.maintenance.is_stopping = True
    if store.options.read_only or store.is_refused or store.commits is None:
        return
    if not _is_present(store) or store.commits.failure is not None:
        return
    if _must_sync(store):
        store.commits.sync()
    # While another process does jobs, it will do these as well.
    if _has_jobs(store) and _claim_jobs(store):
        store.maintenance.run(lambda: _last_jobs(store))
    store.commits.refuse_failed()


def _must_sync(store: StoreParts) -> bool:
    return store.options.durability != "os" or store.commits.is_sync_due


def _has_jobs(store: StoreParts) -> bool:
    """True if the manifest is to be replaced: small stores are closed without a thread."""
    return (
        store.unfinished is not None
        or any(row.size_bytes is None for row in store.rows[:-1])
        or _next_open_is_slow(store)
    )


def _claim_jobs(store: StoreParts) -> bool:
    """Have the jobs; a job that has lost them does not get them back by this."""
    with store.jobs.held():
        return store.claim_jobs(store.token, STALE_MS)


def _last_jobs(store: StoreParts) -> None:
    try:
        maintenance.close_filled_segments(store)
        if _next_open_is_slow(store):
            checkpoint.write_checkpoint(store)
    except (StorageError, CorruptData) as error:
        # Everything is in the log; only the next open will take longer.
        logger.warning("could not save the index at close: %s", error)


def _next_open_is_slow(store: StoreParts) -> bool:
    """True if much would be replayed, or the saved index points to segments that are gone."""
    if store.retired_slots and store.key_index.count >= REPLAY_AT_CLOSE_MAX:
        return True
    return maintenance.must_replay(store, REPLAY_AT_CLOSE_MAX, REPLAY_BYTES_AT_CLOSE_MAX)


def _end_log(store: StoreParts, closed: StoreClosed, last: bool) -> None:
    """Let the last write end; the last process leaves no more of the log than should be found."""
    if last:
        _read_all(store)
    store.stop_writes(closed)
    try:
        store.drop_next_segment()
        if _must_sync(store) and store.commits.failure is None:
            store.commits.sync()  # what was written since the store was settled
    finally:
        if not last:
            pass
        elif store.commits.failure is not None:
            _forget_unsynced(store)
        elif store.has_open_segment and _knows_the_end(store):
            _shorten(store)


def _read_all(store: StoreParts) -> None:
    """Take in what others wrote before they left."""
    try:
        if store.follower is not None:
            store.follower.catch_up()
    except (KvError, OSError) as error:
        logger.warning("closed without reading the last writes of other processes: %s", error)


def _knows_the_end(store: StoreParts) -> bool:
    """True if this process has read all visible records: no process has read any later one."""
    page = store.control_page
    return page is None or store.applied_version >= page.version


def _shorten(store: StoreParts) -> None:
    """Give back the space behind the end of the log."""
    segment_id = store.rows[-1].id
    file = store.segment_table.segment_file(segment_id)
    end = store.segment_table.counters(segment_id)[1]
    if file.size_bytes > end:
        file.shorten(end)


def _forget_unsynced(store: StoreParts) -> None:
    """After a failed sync: let the next open see what is on disk, not what the kernel kept."""
    for row in store.rows:
        if row.size_bytes is None:
            store.segment_table.segment_file(row.id).drop_cache()
    if store.control_page is not None:
        store.control_page.take_back(store.commits.durable_version)


def abandon(store: StoreParts) -> None:
    """A store was dropped without close(), or the program ends: give back what would outlive it."""
    if store.is_released or is_finalizing():
        return
    try:
        store.maintenance.belong_to(store)
        store.maintenance.lease.belong_to(store)
        if store.follower is not None:
            store.follower.belong_to(store)
        close_store(store)
    except Exception as error:  # noqa: BLE001  # no caller to report it to
        logger.warning("a store was not closed, and closing it automatically failed: %s", error)
