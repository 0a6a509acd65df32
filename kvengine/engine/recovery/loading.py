"""From the files of a store to an index that reads them: at open, and when starting over.

Invariants:

* A store reads from its old index until the new one is complete; then it switches to the new index
  and all that belongs to it at once.  No exception, and no other thread, comes in between.
* What a read has shown, the next one shows, too: a new index that is behind is brought up to the
  known version, or not used.
* Files that others replace meanwhile are only a reason to look again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kvengine.engine.access.reading import Reader
from kvengine.engine.index.group_sizes import GroupSizes
from kvengine.engine.index.saved_index import SavedIndex
from kvengine.engine.log import manifest as manifests
from kvengine.engine.log.control import Control
from kvengine.engine.log.manifest import Manifest
from kvengine.engine.log.segment import SegmentTable
from kvengine.engine.log.writer_page import WriterPage
from kvengine.engine.order.key_order import KeyOrder
from kvengine.engine.parts import StoreParts
from kvengine.engine.recovery.recovery import Recovery
from kvengine.engine.store_folder import newest_manifest
from kvengine.errors import CorruptData
from kvengine.file.system import boot_id

READ_ATTEMPTS = 100  # a writer may replace files between two looks of a reader
OUTRUN_MAX = 3  # then reads and writes of this process wait for the index


def recover(
    store: StoreParts,
    control: Control | None,
    manifest: Manifest,
    *,
    alone: bool = False,
    until: int | None = None,
    goes_back: bool = True,
    begun: int = 0,
    **beside: Any,
) -> bool:
    """Fill a new index from the files and let the store read from it; if that fails, as before.

    Args:
        alone: no other process has the store open; leave nothing behind the end of the log.
        until: a version up to which others, at work beside this process, have made changes visible.
        goes_back: what the store knows may be newer, and is not to count any more.
        begun: the newest segment of all, read before `until`: what comes between is not known.
        beside: what else is to change together with the index; see take_over().

    Returns:
        False: threads of this process have followed the log into another segment meanwhile.
    """
    options, reader = store.options, _new_reader(store, manifest.seed)
    order = KeyOrder(options.key_buffer_entries)
    if until is not None and store.frozen_at is not None:
        until = min(until, store.frozen_at)
    recovery = Recovery(
        reader,
        order,
        store.directory,
        manifest,
        writable=not options.read_only,
        alone=alone,
        rebuild=options.rebuild and alone,
        until=until,
        control=control,
        boot=boot_id(),
    )
    recovery.run()
    if reader.groups is not None and recovery.retired_slots:
        reader.groups.invalidate()  # the sizes of keys in removed segments are unknown
    if recovery.end.segment_id:
        recovery.rows[-1] = recovery.rows[-1].ended(None)
    if store.digest_changes is not None and store.follower is not None:
        store.read_active(reader.applied_version)  # so that the digest goes on from here
    rows, end = recovery.rows, recovery.end.segment_id
    return store.take_over(
        *(reader, order, rows, manifest, end, goes_back),
        known_segment=max(begun, end),
        is_old_format=manifest.format != manifests.FORMAT,
        retired_slots=recovery.retired_slots,
        saved_version=recovery.saved.version if recovery.saved else 0,
        **beside,
    )


def _new_reader(store: StoreParts, seed: int) -> Reader:
    """Return what has an empty index, and reads as the store does."""
    options, table, reader = store.options, SegmentTable(), Reader()
    reader.configure(SavedIndex(table), table, seed, options.clock, options.verify)
    if options.groups is not None:
        reader.groups = GroupSizes(*options.groups)
    return reader


def recover_beside(store: StoreParts, page: WriterPage | None, manifest: Manifest) -> None:
    """Make an index from the newest files, and read from it from now on.

    The store's manifest changes together with the index, not before.
    """
    control = None if page is None else page.control
    outrun = 0
    for attempt in range(READ_ATTEMPTS + 1):
        losses = 0 if control is None else control.losses
        once = partial(_recover_once, store, page, manifest)
        try:
            if once() if outrun < OUTRUN_MAX else store.exclusively(once):
                return
            outrun += 1
        except (FileNotFoundError, CorruptData):
            # Another process may have replaced files since the manifest was read, or lost changes.
            newest = newest_manifest(store.directory)
            is_news = newest.generation != manifest.generation or (
                control is not None and control.losses != losses
            )
            if not is_news or attempt == READ_ATTEMPTS:
                raise
            manifest = newest


def _recover_once(store: StoreParts, page: WriterPage | None, manifest: Manifest) -> bool:
    control = None if page is None else page.control
    losses = 0 if control is None else control.losses  # before the version: it goes back after
    begun = 0 if control is None else control.segment
    known = store.applied_version
    until = page.control.version if page is not None and page.is_trusted() else None
    is_set_back = losses != store.seen_losses
    lost_after = store.lost_after
    if is_set_back and control is not None and store.follower is not None:  # it has shown them
        lost_after = (losses, control.lost_after)
    return recover(
        store,
        control,
        manifest,
        until=until,
        goes_back=until is None or until < known or is_set_back,
        begun=begun,
        seen_losses=losses,
        lost_after=lost_after,
    )
