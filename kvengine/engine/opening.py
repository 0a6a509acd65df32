"""Opening a store, for writing (joining.py) or read-only, even in a forked process.

Invariants:

* If opening fails, everything is released at once: no lock, descriptor or thread is left.
* A reader waits only for a process that is determining the end of the log.
* A child never uses resources of its parent: it opens the store itself, or raises an error.
"""

from __future__ import annotations

import errno
import secrets
import time
from dataclasses import replace
from typing import Any, TypeVar

from kvengine.engine.access.write_lock import FORKED
from kvengine.engine.closing import abandon
from kvengine.engine.following.follower import Follower
from kvengine.engine.following.waiting import Waiting
from kvengine.engine.jobs import maintenance
from kvengine.engine.jobs.holding import OwnedLock, Pins
from kvengine.engine.jobs.interval_sync import IntervalSync
from kvengine.engine.jobs.job_lease import JobLease
from kvengine.engine.jobs.job_thread import JobThread
from kvengine.engine.joining import open_to_write
from kvengine.engine.log.manifest import Manifest
from kvengine.engine.log.names import CONTROL_NAME
from kvengine.engine.log.reserve import Reserve
from kvengine.engine.log.writer_page import WriterPage, is_foreign, open_page, page_is_whole
from kvengine.engine.parts import StoreParts
from kvengine.engine.recovery.loading import recover_beside
from kvengine.engine.store_folder import load_manifest
from kvengine.errors import (
    CorruptData,
    InvalidRequest,
    InvalidType,
    StorageError,
    StoreBusy,
    StoreClosed,
    UnsupportedFormat,
)
from kvengine.file.directory import Directory
from kvengine.file.memory import MemoryDirectory
from kvengine.file.system import exit_watch, fork_watch, text_path
from kvengine.options import Options

S = TypeVar("S", bound=StoreParts)
FORKED_IN_MEMORY = (
    "the store in memory was created before a fork, and belongs to the parent process: create "
    "another one in the child"
)
LIVE_COPY = (
    "is the folder a copy that cp or rsync made of a store in use? Such copies are not "
    "consistent; use Store.backup() or kvengine backup. To recover intact records, use kvengine "
    "salvage"
)
OPENING_LOOKS, OPENING_PAUSE_S = 500, 0.01  # a reader waits for a writer that is opening
FOREIGN_LOOKS = 50  # a process that opens a store of another version soon reports it


def folder_path(path: Any) -> str:
    """Return a path as text.

    Raises:
        InvalidType: it is not a str, bytes or os.PathLike.
        InvalidRequest: it is empty, or no name that the file system can have; or it is a URL, or
            begins with "~/", which would make a folder of that name here.
    """
    try:
        text = text_path(path)
    except TypeError as error:
        raise InvalidType(f"the path of a store: {error}") from None
    except UnicodeEncodeError:
        raise InvalidRequest(f"the path of a store can't be {path!r}") from None
    if not text or "\0" in text:
        raise InvalidRequest(f"the path of a store can't be {text!r}")
    if text.startswith(("http://", "https://")):
        raise InvalidRequest("the path of a store can't be a URL; to use a server: connect(URL)")
    if text == "~" or text.startswith("~/"):
        raise InvalidRequest(f"{text!r} is not expanded; give os.path.expanduser({text!r})")
    return text


def start(store: StoreParts, directory: Directory, options: Options) -> None:
    """Open what a directory holds, or make it; see open_store()."""
    store.options = options
    store.closing = OwnedLock()
    store.waiting = Waiting()
    _reset(store, directory)
    open_store(store)


def opened(kind: type[S], directory: Directory, options: Options) -> S:
    """Return a store of some class, in a directory object."""
    store = kind.__new__(kind)
    start(store, directory, options)
    return store


def _reset(store: StoreParts, directory: Directory) -> None:
    """Know nothing yet of a store that is about to be opened."""
    store.directory = directory
    store.manifest = Manifest(uuid=bytes(16), seed=0)
    store.is_settled = False
    store.jobs, store.files, store.moving = OwnedLock(), OwnedLock(), OwnedLock()
    store.retired_slots = []
    store.saved_version = store.saved_taken_in = 0
    store.token = secrets.randbits(63) | 1
    store.loose, store.pins, store.unfinished = set(), Pins(), None
    store.is_compacting_in_background = False
    store.behind_since = None
    store.maintenance = JobThread(store, JobLease(store, store.token), maintenance.work)
    store.interval_sync = IntervalSync()
    store.reserve = Reserve(directory)
    store.follower = None
    store.next_segment = None


def open_store(store: StoreParts, known: Manifest | None = None) -> None:
    """Open what `store.directory` holds, or make it.

    Raises:
        StoreClosed: it is not the store that `known` is a manifest of.
    """
    directory = store.directory
    try:
        store.is_released = False
        if store.options.read_only:
            store.manifest = load_manifest(directory, create=False)
            store.refuse_writes(maintenance.read_only_error())
            _begin_reader(store)
        else:
            open_to_write(store)
        if known is not None and store.manifest.uuid != known.uuid:
            raise StoreClosed(
                f"the folder {directory.path} now holds another store than the one that was open "
                "before the fork: open it again in the child"
            )
        fork_watch(store, _after_fork)
        exit_watch(store, abandon)
    except BaseException as error:
        if isinstance(error, CorruptData) and directory.was_left_open():
            error.args = (f"{error} ({LIVE_COPY})",)
        _give_up(store, StoreClosed(f"the store could not be opened: {error}"))
        raise


def open_again(store: StoreParts) -> None:
    """In a forked child: open for this process what the parent had open.

    Raises:
        StoreLocked: the parent has it for itself alone (exclusive=True).
        StoreClosed: the folder holds another store by now.
    """
    if store.maintenance.is_inside():
        raise StoreBusy("the process was forked in the middle of this job")
    with store.closing.held():  # other threads wait here until it is open
        if not store.is_forked or store.is_opening_again:
            return
        store.is_opening_again = True
        try:
            known = store.manifest
            store.options = replace(store.options, create=False, rebuild=False)  # that was done
            directory, spare = store.directory.reader(), store.directory.reader()
            store.directory.close()
            _reset(store, directory)
            try:
                open_store(store, known)
            except BaseException:
                store.directory, store.manifest = spare, known  # for the next attempt
                raise
            spare.close()
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


def snapshot(store: S, version: int | None = None) -> S:
    """Return a store as it is now, or as of a version not older than its saved index, to read."""
    frozen = type(store).__new__(type(store))
    frozen.is_frozen, frozen.frozen_at = True, version
    frozen.page_of_writer = store.control_page
    options = replace(store.options, read_only=True, exclusive=False, create=False, rebuild=False)
    start(frozen, store.directory.reader(), options)
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
    store.refuse_writes(None)  # a sync that failed is the parent's; the page says what counts here
    store.is_settled = store.is_released = True
    store.directory.after_fork_in_child()
    store.is_forked = not in_memory


def _begin_reader(store: StoreParts) -> None:
    if store.page_of_writer is not None:  # of a snapshot: there is nothing to wait for
        store.directory.watch(CONTROL_NAME)  # if it is there: a backup looks whose folder this is
        page: WriterPage | None = WriterPage(store.page_of_writer, store.directory)
    else:
        page = _wait_for_page(store.directory)
    recover_beside(store, page, store.manifest)
    if not store.is_frozen:
        store.follower = Follower(store, page)
        store.looks = True


def _wait_for_page(directory: Directory) -> WriterPage | None:
    """Return the page of the writer there is, once it knows where the log ends.

    Raises:
        StorageError: a writer has the store open, but its control page is missing.
        UnsupportedFormat: the writer has another version of kvengine.
    """
    page = open_page(directory)
    for look in range(OPENING_LOOKS):
        at_work = page is not None and not page.control.is_copy and page.is_trusted()
        if at_work or not directory.lock_is_held():
            return page
        if look == FOREIGN_LOOKS and page is None and is_foreign(directory):
            raise UnsupportedFormat(
                f"a process with another version of kvengine has {directory.path} open for "
                f"writing, and {CONTROL_NAME} is in another format: close the store there; then "
                "this version can read it"
            )
        # A writer is deciding where the log ends, or makes the store.
        time.sleep(OPENING_PAUSE_S)
        page = page or open_page(directory)
    if not page_is_whole(directory) or (page is not None and page.control.is_copy):
        raise StorageError(
            errno.ENOENT,
            f"the file {CONTROL_NAME} was removed, truncated or replaced in the folder of a store "
            "that is open for writing, and readers can't follow a writer without it: close the "
            "store in the processes that write, and open it there again",
            directory.path,
        )
    return page
