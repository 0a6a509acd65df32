"""Opening a store for writing: alone, which includes recovery, or beside other writers.

Invariants:

* A process holds OPENING while it opens or closes a store, so whether it is alone does not change
  meanwhile.
* Only a process that is alone cuts the log, removes files and initializes the control page; those
  that join later trust the page.
* A failed sync is forgotten only once the recovered data has been written again, and is on disk.
"""

from __future__ import annotations

import errno
import time
import weakref
from collections.abc import Callable
from dataclasses import replace

from kvengine.engine.following import positions
from kvengine.engine.following.follower import Follower
from kvengine.engine.jobs import maintenance
from kvengine.engine.log import segment_file
from kvengine.engine.log.control import Control
from kvengine.engine.log.durability import level_of
from kvengine.engine.log.durable import CommitGroup
from kvengine.engine.log.names import CONTROL_NAME, MANIFEST_NAME
from kvengine.engine.log.reserve import segment_bytes
from kvengine.engine.log.segment import bytes_at
from kvengine.engine.log.writer_page import WriterPage, open_control
from kvengine.engine.parts import StoreParts
from kvengine.engine.recovery.loading import recover, recover_beside
from kvengine.engine.store_folder import (
    load_manifest,
    refuse_other_folder,
    remove_strays,
    used_ids,
)
from kvengine.errors import StorageError, StoreLocked, StoreReadOnly
from kvengine.file.directory import Directory
from kvengine.file.system import (
    boot_id,
    pid_namespace,
    process_id,
    process_is_gone,
    process_start,
)

PIECE_BYTES = 1 << 20
SHARE_S = 0.2  # how long to wait for a write before checking that its process is alive
PATIENCE_S = 60.0


def open_to_write(store: StoreParts) -> None:
    """Open a store alone, and recover it, or beside the processes that have it open."""
    options, directory = store.options, store.directory
    refuse_other_folder(directory, create=options.create)
    with directory.opening():
        alone = directory.try_lock()
        if not alone:
            if options.exclusive or options.rebuild:
                raise StoreLocked(directory.path, directory.pid_of_holder())
            alone = not _share(directory)
        store.manifest = load_manifest(directory, create=options.create and alone)
        size = segment_bytes(directory, options.segment_bytes)
        if size != options.segment_bytes:
            store.options = replace(options, segment_bytes=size)
        if alone:
            _begin_alone(store)
        else:
            _join(store)
        if alone and not options.exclusive:
            directory.share_lock()
    _begin_work(store)


def _share(directory: Directory) -> bool:
    """Join the other writers; False if there are none any more.

    Raises:
        StoreLocked: a process has the store exclusively, or was stopped in mid-write.
    """
    until = time.monotonic() + PATIENCE_S
    directory.lock(shared=True)
    while not directory.is_last():  # its holder may exit, or die while it writes alone
        control = open_control(directory, writable=True)
        if control is None or not control.is_valid or control.is_copy or control.share(SHARE_S):
            return True
        if _is_orphan(control):
            control.release_dead_owner()
            return True
        if time.monotonic() > until:
            # Not the one that came last: that is this process.
            raise StoreLocked(directory.path, control.pid or None, PATIENCE_S, is_writing=True)
    return False


def _is_orphan(control: Control) -> bool:
    """True if the process that was alone died in the middle of a write.

    Its locks are held on by a child of which it did not know: some program in C has forked.
    """
    mine = pid_namespace()
    if mine == 0 or control.pid_namespace != mine:
        return False
    return process_is_gone(control.pid, control.pid_start)


def _begin_alone(store: StoreParts) -> None:
    """Recover a store that no other process has open, and set up what they will share."""
    control = open_control(store.directory, writable=True, alone=True)
    assert control is not None
    # Others may replace the manifest, but never this file.
    store.directory.watch(CONTROL_NAME, beside=MANIFEST_NAME)
    control.prepare()
    recover(store, control, store.manifest, alone=True)
    if control.is_valid and control.failed:
        _write_again(store)
    names = store.directory.names()
    next_id = max([store.manifest.next_id, *used_ids(names, store.manifest)])
    version, open_row = store.applied_version, store.rows[-1] if store.has_open_segment else None
    positions.mark_lost(store, positions.consumers_in(names))
    durable = control.is_readable and control.durable_version >= version
    control.set_up(
        boot_id(),
        process_id(),
        version,
        version if durable else 0,
        store.manifest.generation,
        next_id,
        store.manifest.next_id,
        pid_namespace(),
        process_start(process_id()),
    )
    store.seen_losses = control.losses
    if open_row is not None:
        file = store.segment_table.segment_file(open_row.id)
        # It may have been begun because a writer was killed.
        taken_over = any(row.size_bytes is None for row in store.rows[:-1])
        control.begin_in(open_row.id, open_row.first_version, file.size_bytes, taken_over)
    kept = {segment_file.file_name(row.id) for row in store.rows}
    remove_strays(store.directory, names, store.manifest, kept)
    _connect(store, control)
    store.note_manifest()


def _write_again(store: StoreParts) -> None:
    """A sync has failed: what was found may be in memory alone, where the kernel calls it clean."""
    table = store.segment_table
    for row in store.rows:
        if row.size_bytes is None:
            file, end = table.segment_file(row.id), table.counters(row.id)[1]
            for at in range(0, end, PIECE_BYTES):
                file.write(bytes_at(file, at, min(PIECE_BYTES, end - at)), at)
            file.flush()


def _join(store: StoreParts) -> None:
    """Follow the others that have the store open, and write as they do.

    Raises:
        StorageError: the control page is missing, or none that this process can use.
    """
    control = open_control(store.directory, writable=True)
    if control is None or not control.is_valid or control.is_copy or not control.fits:
        raise StorageError(
            errno.ENOENT,
            f"another process has the store open for writing, and {CONTROL_NAME}, the file they "
            "share, is missing, replaced or truncated, or was created with another C library "
            "(such as glibc on Debian and musl on Alpine): close the store in all processes, or "
            "make all of them use the same C library",
            store.directory.path,
        )
    mine = pid_namespace()
    if mine and control.pid_namespace not in (0, mine):
        raise StorageError(
            errno.EXDEV,
            "a process in another PID namespace (of another container, or of the host) has the "
            "store open for writing. The lock identifies its holder by a thread id, and these ids "
            "are valid only within one namespace: let the containers share one (docker "
            "run --pid=container:NAME, in Kubernetes shareProcessNamespace: true), run commands "
            "in the container (docker exec), or open the store with read_only=True",
            store.directory.path,
        )
    store.directory.watch(CONTROL_NAME, beside=MANIFEST_NAME)
    page = WriterPage(control, store.directory)
    page.believe()
    recover_beside(store, page, store.manifest)
    _connect(store, control)


def _connect(store: StoreParts, control: Control) -> None:
    """Let a store that was recovered write together with others."""
    options, commits = store.options, CommitGroup()
    commits.on_failure = failure_handler(store)
    files = [store.segment_table.segment_file(row.id) for row in store.rows if not row.size_bytes]
    active_id = store.rows[-1].id if store.has_open_segment else 0
    active = store.segment_table.segment_file(active_id) if active_id else None
    filled = [file for file in files if file is not active]
    commits.begin(store.directory, filled, active, active_id, store.applied_version)
    store.configure_writes(
        store.key_order,
        commits,
        level_of(options.durability),
        options.segment_bytes,
        options.log_writes == "auto",
    )
    page = WriterPage(control, store.directory)
    page.believe()
    store.follower = Follower(store, page)
    store.connect_writer(control)


def _begin_work(store: StoreParts) -> None:
    """The store is open: begin what is done beside reads and writes."""
    options = store.options
    store.keep_reserve()
    if store.manifest.origin is not None:
        store.follows = maintenance.replica_error(store)
    if options.rebuild:
        store.maintenance.run(lambda: maintenance.save_rebuilt(store))
    if options.durability == "interval":
        store.interval_sync.begin(store.commits, options.sync_interval_s)
    if store.key_order.is_full():
        store.maintenance.wake()


def failure_handler(store: StoreParts) -> Callable[[StoreReadOnly], None]:
    """Return what makes a store read-only, without keeping it alive."""
    reference = weakref.ref(store)

    def refuse(error: StoreReadOnly) -> None:
        held = reference()
        if held is not None and held.refusal is None:
            held.refuse_writes(error)

    return refuse
