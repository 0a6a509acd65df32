"""Closing a store: leave the folder so that the next open is quick and right.

Invariants:

* What was acknowledged does not depend on it: a store that is never closed loses nothing.
* After a sync that failed, nothing that may not be on disk is left to be found by the next open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvengine.engine import checkpoint, maintenance
from kvengine.errors import CorruptData, StorageError, StoreClosed
from kvengine.file.system import is_finalizing

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts

REPLAY_AT_CLOSE_MAX = 8192  # changes; more are put into a saved index, fewer replayed in ~2 ms
REPLAY_BYTES_AT_CLOSE_MAX = 4 << 20


def close_store(store: StoreParts) -> None:
    """Close a store; closing twice is no error."""
    if store.is_refused:
        return
    store.maintenance.stop()
    closed = StoreClosed("the store is closed")
    try:
        if not store.options.read_only:
            _close_writer(store, closed)
    finally:
        store.refuse(closed)
        store.waiting.wake()
        store.directory.unlock()
        store.directory.close()


def _close_writer(store: StoreParts, closed: StoreClosed) -> None:
    """Leave the folder so that the next open is quick."""
    with store.jobs:
        try:
            if store.commits.failure is None and _is_present(store):
                _settle(store)
        finally:
            store.stop_writes(closed)
            if store.commits.failure is not None:
                _forget_unsynced(store)
            elif store.has_open_segment:
                _shorten(store)


def _is_present(store: StoreParts) -> bool:
    """False if there is nothing to leave in order: the folder is gone, or another store's."""
    try:
        store.commits.check_present()
    except StorageError as error:
        maintenance.logger.warning("closed without saving anything: %s", error)
        return False
    return True


def _settle(store: StoreParts) -> None:
    """Bring to disk what must be there, and save the index if the next open would be slow."""
    if store.options.durability != "os":
        store.commits.sync()
    try:
        maintenance.close_filled_segments(store)
        if _next_open_is_slow(store):
            checkpoint.write_checkpoint(store)
    except (StorageError, CorruptData) as error:
        # Everything is in the log; only the next open will take longer.
        maintenance.logger.warning("could not save the index at close: %s", error)


def _next_open_is_slow(store: StoreParts) -> bool:
    """True if much would be replayed, or the saved index points to segments that are gone."""
    if store.retired_slots and store.key_index.count >= REPLAY_AT_CLOSE_MAX:
        return True
    return maintenance.must_replay(store, REPLAY_AT_CLOSE_MAX, REPLAY_BYTES_AT_CLOSE_MAX)


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
        store.control_page.version = store.commits.durable_version


def abandon(store: StoreParts) -> None:
    """A store was dropped without close(), or the program ends: give back what would outlive it."""
    if store.is_refused or is_finalizing():
        return
    try:
        close_store(store)
    except Exception as error:  # noqa: BLE001  # nobody is left to hear it
        maintenance.logger.warning("a store was not closed, and closing it failed: %s", error)
