"""Opening a store: make it or find it, lock it, recover it.

Invariants:

* A folder is a store if it has a manifest.  A folder with other files in it is left alone.
* Making a store is atomic: until its manifest is in place there is nothing to open, and a creation
  that was cut short is done again.
* Files that no manifest names (left by a crash between two steps) are removed by the next writer.
"""

from __future__ import annotations

import errno
import secrets
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvengine.engine import index_file, maintenance, positions, segment_file
from kvengine.engine import manifest as manifests
from kvengine.engine.closing import abandon
from kvengine.engine.control import Control
from kvengine.engine.durable import CommitGroup, level_of
from kvengine.engine.follower import Follower
from kvengine.engine.group_sizes import GroupSizes
from kvengine.engine.key_order import KeyOrder
from kvengine.engine.log_end import FORKED
from kvengine.engine.manifest import Manifest
from kvengine.engine.names import CONTROL_NAME, MANIFEST_NAME, consumer_of, id_of, is_data, is_own
from kvengine.engine.reading import Reader
from kvengine.engine.recovery import Recovery
from kvengine.engine.reserve import segment_bytes
from kvengine.engine.saved_index import SavedIndex
from kvengine.engine.segment import SegmentTable
from kvengine.engine.writer_page import WriterPage, open_control, open_page
from kvengine.errors import (
    CorruptData,
    InvalidRequest,
    InvalidType,
    NotAStore,
    StorageError,
    StoreBusy,
    StoreClosed,
    StoreLocked,
    StoreReadOnly,
)
from kvengine.file.directory import Directory
from kvengine.file.memory import MemoryDirectory
from kvengine.file.system import (
    boot_id,
    exit_watch,
    fork_watch,
    process_id,
    text_path,
)
from kvengine.options import Options

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts
    from kvengine.engine.store import Store

READ_ATTEMPTS = 100  # a writer may replace files between two looks of a reader
FORKED_IN_MEMORY = (
    "the store in memory was made before a fork, and stays with the parent process: make another "
    "one in the child"
)
LIVE_COPY = (
    "is the folder a copy that cp or rsync made of a store in use? Such copies do not fit "
    "together: make them with Store.backup() or kvengine backup; kvengine salvage gets out what is "
    "whole"
)
OPENING_LOOKS, OPENING_PAUSE_S = 500, 0.01  # a reader waits for a writer that is opening


def refuse_other_folder(directory: Directory, *, create: bool) -> None:
    """Leave a folder alone that is not a store, and may not become one.

    Raises:
        NotAStore: there is no manifest, and there are other files, or none may be made.
    """
    names = directory.names()
    if MANIFEST_NAME in names:
        return
    strangers = [name for name in names if not is_own(name)]
    if strangers:
        raise NotAStore(
            f"{directory.path} is not a kvengine store: it holds other files ({strangers[0]!r})"
        )
    if not create and not any(is_data(name) for name in names):
        raise NotAStore(f"{directory.path} is not a kvengine store: it has no {MANIFEST_NAME}")


def load_manifest(directory: Directory, *, create: bool) -> Manifest:
    """Return the manifest, making a new store if there is none and `create` says so.

    Raises:
        NotAStore: there is no store, and none may be made here.
        CorruptData: the manifest is damaged, or missing beside segments.
    """
    try:
        data = directory.read(MANIFEST_NAME)
    except FileNotFoundError:
        data = b""
    if data:
        return manifests.decode(data, MANIFEST_NAME)
    if any(is_data(name) for name in directory.names()):
        raise CorruptData(
            "manifest", file=MANIFEST_NAME, offset=0, expected="a manifest", found="none"
        )
    refuse_other_folder(directory, create=create)
    manifest = Manifest(uuid=uuid.uuid4().bytes, seed=secrets.randbits(64))
    directory.replace(MANIFEST_NAME, manifest.encode(), durable=True)
    return manifest


def remove_strays(
    directory: Directory, names: list[str], manifest: Manifest, segments: set[str]
) -> None:
    """Remove what an interrupted step left behind; recovery has taken in what counts."""
    named = segments | set(manifest.key_runs)
    if manifest.index is not None:
        named.add(index_file.file_name(manifest.index[0]))
    strays = [
        name
        for name in names
        if (is_data(name) and name not in named)
        or (is_own(name) and name.endswith(".tmp") and consumer_of(name[:-4]) is None)
    ]
    if any((id_of(name) or manifest.next_id) < manifest.next_id for name in strays):
        directory.sync()  # the manifest that does not name them must not give way to an older one
    for name in strays:
        directory.remove(name)


def make_options(**options: Any) -> Options:
    """Return the options of a store.

    Raises:
        InvalidRequest: a name or a value is not one of those in kvengine.options.Options.
    """
    try:
        return Options(**options)
    except TypeError as error:
        raise InvalidRequest(f"unknown option: {error}") from None


def folder_path(path: Any) -> str:
    """Return a path as text.

    Raises:
        InvalidType: it is no str, bytes or os.PathLike.
        InvalidRequest: it is empty, or no name that the file system can have.
    """
    try:
        text = text_path(path)
    except TypeError as error:
        raise InvalidType(f"the path of a store: {error}") from None
    except UnicodeEncodeError:
        raise InvalidRequest(f"the path of a store can't be {path!r}") from None
    if not text or "\0" in text:
        raise InvalidRequest(f"the path of a store can't be {text!r}")
    return text


def open_store(store: StoreParts) -> None:
    """Open what `store.directory` holds, or make it."""
    directory = store.directory
    try:
        store.is_released = False
        if store.options.read_only:
            store.manifest = load_manifest(directory, create=False)
            store.refuse_writes(maintenance.read_only_error())
            _begin_reader(store)
        else:
            _open_to_write(store)
        fork_watch(store, _after_fork)
        exit_watch(store, abandon)
    except BaseException as error:
        if isinstance(error, CorruptData) and directory.was_left_open():
            error.args = (f"{error} ({LIVE_COPY})",)
        _give_up(store, StoreClosed(f"the store could not be opened: {error}"))
        raise


def _open_to_write(store: StoreParts) -> None:
    """Open a store alone, and recover it, or beside the processes that have it open."""
    options, directory = store.options, store.directory
    refuse_other_folder(directory, create=options.create)
    with directory.opening():
        alone = directory.try_lock()
        if not alone:
            if options.exclusive or options.rebuild:
                raise StoreLocked(directory.path, directory.pid_of_holder())
            directory.lock(shared=True)
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


def open_again(store: StoreParts) -> None:
    """In a forked child: open for this process what the parent had open.

    Raises:
        StoreLocked: the parent has it for itself alone (exclusive=True).
    """
    if store.maintenance.is_inside():
        raise StoreBusy("the process was forked in the middle of this job")
    with store.closing.held():  # other threads wait here until it is open
        if not store.is_forked or store.is_opening_again:
            return
        store.is_opening_again = True
        try:
            directory = store.directory.reader()
            store.directory.close()
            store.begin_anew(directory)
            open_store(store)
            store.is_forked = False
            store.refuse(None)
        finally:
            store.is_opening_again = False


def _give_up(store: StoreParts, error: StoreClosed) -> None:
    """Leave no lock, descriptor or thread behind, however far opening has come."""
    store.refuse(error)
    store.maintenance.close(error)
    store.interval_sync.close()
    store.directory.unlock()
    store.directory.close()
    store.is_settled = store.is_released = True


def snapshot(store: Store, version: int | None = None) -> Store:
    """Return a store as it is now, or as of a version not older than its saved index, to read."""
    frozen = type(store).__new__(type(store))
    frozen.is_frozen, frozen.frozen_at = True, version
    frozen.page_of_writer = store.control_page
    options = replace(store.options, read_only=True, create=False, rebuild=False)
    frozen._start(store.directory.reader(), options)
    return frozen


def _after_fork(store: StoreParts) -> None:
    """In a child process: a reader goes on; a writer opens the store again when it is used."""
    store.waiting.renew()
    for lock in (store.jobs, store.files, store.closing, store.moving):
        lock.after_fork_in_child()
    in_memory = isinstance(store.directory, MemoryDirectory)
    error = StoreClosed(FORKED_IN_MEMORY if in_memory else FORKED)
    store.maintenance.after_fork_in_child(error)
    store.interval_sync.after_fork_in_child()
    store.after_fork()
    if store.options.read_only or store.is_released:
        return
    store.refuse(error)
    store.is_settled = store.is_released = True
    store.directory.after_fork_in_child()
    store.is_forked = not in_memory


def recover(
    store: StoreParts,
    control: Control | None,
    manifest: Manifest,
    *,
    alone: bool = False,
    until: int | None = None,
) -> Recovery:
    """Fill a new index from the files and let the store read from it; if that fails, as before.

    Args:
        alone: no other process has the store open; leave nothing behind the end of the log.
        until: a version up to which others, at work beside this process, have made changes visible.
    """
    options, seed = store.options, manifest.seed
    table = SegmentTable()
    order = KeyOrder(options.key_buffer_entries)
    reader = Reader()
    reader.configure(SavedIndex(table), table, seed, options.clock, options.verify)
    if options.groups is not None:
        reader.groups = GroupSizes(*options.groups)
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
        reader.groups.doubt()  # keys of segments that are gone: nobody knows how large they were
    if recovery.end.segment_id:
        recovery.rows[-1] = recovery.rows[-1].ended(None)
    store.take_over(reader, order, recovery.rows, manifest, recovery.end.segment_id)
    store.digest_sum = None
    store.is_old_format = manifest.format != manifests.FORMAT
    store.retired_slots = recovery.retired_slots
    store.saved_version = recovery.saved.version if recovery.saved else 0
    return recovery


def _begin_alone(store: StoreParts) -> None:
    """Recover a store that no other process has open, and set up what they will share."""
    control = open_control(store.directory, writable=True)
    assert control is not None
    store.directory.watch(CONTROL_NAME)  # others may replace the manifest, nobody this file
    control.prepare()
    recovery = recover(store, control, store.manifest, alone=True)
    store.reserve.begin()
    names = store.directory.names()
    next_id = max([store.manifest.next_id, *_used_ids(names, store.manifest)])
    version, open_row = store.applied_version, store.rows[-1] if store.has_open_segment else None
    positions.mark_lost(store, positions.consumers_in(names))
    durable = control.is_valid and control.durable_version >= version
    control.set_up(
        boot_id(),
        process_id(),
        version,
        version if durable else 0,
        store.manifest.generation,
        next_id,
        store.manifest.next_id,
    )
    if recovery.end.segment_id and open_row is not None:
        file = store.segment_table.segment_file(open_row.id)
        control.begin_in(open_row.id, open_row.first_version, file.size_bytes)
    kept = {segment_file.file_name(row.id) for row in store.rows}
    remove_strays(store.directory, names, store.manifest, kept)
    _connect(store, control)


def _join(store: StoreParts) -> None:
    """Follow the others that have the store open, and write as they do.

    Raises:
        StorageError: the control page is missing, or none that this process can use.
    """
    control = open_control(store.directory, writable=True)
    if control is None or not control.is_valid or not control.fits:
        raise StorageError(
            errno.ENOENT,
            f"another process has the store open, and the file {CONTROL_NAME} that they share "
            "is missing, or was made with another C library: close the store in all processes",
            store.directory.path,
        )
    store.directory.watch(CONTROL_NAME)
    page = WriterPage(control, store.directory)
    page.believe()
    _recover_beside(store, page)
    _connect(store, control)


def _connect(store: StoreParts, control: Control) -> None:
    """Let a store that was recovered write together with others."""
    options, commits = store.options, CommitGroup()
    commits.on_failure = refuser(store)
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
    control.connect_writer(store, commits)


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


def refuser(store: StoreParts) -> Callable[[StoreReadOnly], None]:
    """Return what makes a store read-only, without keeping it alive."""
    reference = weakref.ref(store)

    def refuse(error: StoreReadOnly) -> None:
        held = reference()
        if held is not None and held.refusal is None:
            held.refuse_writes(error)

    return refuse


def _used_ids(names: list[str], manifest: Manifest) -> list[int]:
    """Return the number after that of each file that is or was there: none is given twice."""
    index = [index_file.file_name(manifest.index[0])] if manifest.index else []
    every = [*names, *manifest.key_runs, *index]
    return [number + 1 for name in every if (number := id_of(name)) is not None]


def _begin_reader(store: StoreParts) -> None:
    if store.page_of_writer is not None:  # of a snapshot: there is nothing to wait for
        store.directory.watch(CONTROL_NAME)  # if it is there: a backup looks whose folder this is
        page: WriterPage | None = WriterPage(store.page_of_writer, store.directory)
    else:
        page = _wait_for_page(store.directory)
    _recover_beside(store, page)
    if not store.is_frozen:
        store.follower = Follower(store, page)
        store.looks = True


def _wait_for_page(directory: Directory) -> WriterPage | None:
    """Return the page of the writer there is, once it knows where the log ends.

    Raises:
        StorageError: there is a writer, and its page is missing: nobody could follow it.
    """
    page = open_page(directory)
    for _ in range(OPENING_LOOKS):
        if (page is not None and page.is_trusted()) or not directory.lock_is_held():
            return page
        # A writer is deciding where the log ends, or makes the store.
        time.sleep(OPENING_PAUSE_S)
        page = page or open_page(directory)
    if directory.stamp(CONTROL_NAME) is None:
        raise StorageError(
            errno.ENOENT,
            f"the file {CONTROL_NAME} was removed from the folder of a store that is open for "
            "writing, and readers can't follow a writer without it: close the store in the process "
            "that writes, and open it there again",
            directory.path,
        )
    return page


def _recover_beside(store: StoreParts, page: WriterPage | None) -> None:
    """Make an index from the newest files, and read from it from now on."""
    control = None if page is None else page.control
    manifest = store.manifest
    for attempt in range(READ_ATTEMPTS + 1):
        until = page.control.version if page is not None and page.is_trusted() else None
        try:
            if control is not None:
                store.seen_losses = control.losses
            recover(store, control, manifest, until=until)
            return
        except (FileNotFoundError, CorruptData):
            # Another process may have replaced files since the manifest was read.
            newest = _newest_manifest(store)
            if newest.generation == manifest.generation or attempt == READ_ATTEMPTS:
                raise
            manifest = newest


def _newest_manifest(store: StoreParts) -> Manifest:
    return manifests.decode(store.directory.read(MANIFEST_NAME), MANIFEST_NAME)


def reload(store: StoreParts, page: WriterPage | None) -> None:
    """Start over from the newest files."""
    store.manifest = _newest_manifest(store)
    _recover_beside(store, page)
