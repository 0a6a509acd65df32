"""The engine's part of a replica: a store that takes over the log of another one.

(follower.py is different: a reader that follows the writer of its folder in another process.)

Invariants:

* A replica refuses the writes of users, in this process and after each open, until it is promoted.
* Staged records are written beside the store, invisible, until adopt() puts them in place with one
  manifest.  A crash before that leaves the store unchanged, and files that the next open removes.
* After adopt(), the index is built from the files as at an open, and takes its place at once:
  readers see the store before or after.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvengine.engine import opening, store_folder
from kvengine.engine.access.applying import packed
from kvengine.engine.jobs import checkpoint, maintenance
from kvengine.engine.jobs.job_thread import logger
from kvengine.engine.log import segment_file
from kvengine.engine.log.manifest import COMPACTED, Origin, SegmentRow
from kvengine.engine.log.names import MANIFEST_NAME, is_own
from kvengine.engine.parts import StoreParts
from kvengine.engine.recovery import loading
from kvengine.entry import Change
from kvengine.errors import InvalidRequest, StorageError, StoreClosed, StoreReadOnly
from kvengine.file.local import LOCK_NAME, LocalDirectory
from kvengine.file.mapped import MappedFile


def begin(store: StoreParts, origin: Origin) -> None:
    """Let a store be a replica, and write down of what."""
    store.maintenance.run(lambda: store.replace_manifest(origin=origin))
    store.follows = maintenance.replica_error(store)


def note_position(store: StoreParts, position: int) -> None:
    """Write down how far a replica has come, where no record says so."""
    origin = store.manifest.origin
    if origin is not None and origin.position != position:
        origin = replace(origin, position=position)
        store.maintenance.run(lambda: store.replace_manifest(origin=origin))


def promote(store: StoreParts, version: int) -> None:
    """Let users write to a replica; their versions go on behind `version`, or what it holds."""
    store.maintenance.run(lambda: _promote(store, version))


def _promote(store: StoreParts, version: int) -> None:
    def finish() -> None:
        if version > store.applied_version:
            store.exclusively(lambda: _rebuild(store))
        store.follows = None

    if version > store.applied_version:
        store.commits.sync()
        rows = _close_log(store)
        store.replace_manifest(finish, segments=rows, version=version, origin=None)
    else:
        store.replace_manifest(finish, origin=None)


def share(store: StoreParts) -> None:
    """Let other processes write to a store that was opened for this one alone."""
    with store.directory.opening():
        store.directory.share_lock()
    store.options = replace(store.options, exclusive=False)


def _close_log(store: StoreParts) -> list[SegmentRow]:
    """Bring the log to disk; return its segments, all closed, without an empty one."""

    store.drop_next_segment()  # its number may be below the manifest's `next_id`

    def end() -> None:
        if store.has_open_segment:
            store.rows = [*store.rows[:-1], store.rows[-1].ended(store.applied_version)]
            store.rebase()

    store.exclusively(end)
    rows = []
    for row in store.rows:
        size = row.size_bytes
        if size is None:
            size = store.segment_table.counters(row.id)[1]
            file = store.segment_table.segment_file(row.id)
            file.shorten(size)
            store.commits.sync_file(file)
        if size > segment_file.HEADER_BYTES:
            rows.append(row.closed(size))
    return rows


def _rebuild(store: StoreParts) -> None:
    """Make the index anew from the files that the manifest names, and go on with it."""
    try:
        begun = store.known_segment  # no other writer
        loading.recover(store, store.control_page, store.manifest, alone=True, begun=begun)
        version = store.applied_version
        store.commits.begin(store.directory, [], None, 0, version)
        store.saved_taken_in = store.taken_in
        if store.control_page is not None:
            store.control_page.durable_version = version
            store.control_page.version = version
    except BaseException as error:
        # The files are right, what is in memory is not what they say.
        store.refuse(StoreReadOnly(f"open the store again: {error}", error))
        raise


@dataclass(slots=True)
class _Output:
    """A segment that is being staged."""

    id: int
    file: MappedFile
    salt: int
    first_version: int
    end: int = segment_file.HEADER_BYTES


def clear_folder(path: Any) -> None:
    """Remove the store in a folder, if there is one; it need not be able to open.

    Raises:
        NotAStore: the folder holds other files.
        StoreLocked: another process has the store open for writing.
    """
    directory = LocalDirectory(opening.folder_path(path))
    try:
        store_folder.refuse_other_folder(directory, create=True)
        directory.lock()
        # The manifest last: while it is there, the rest is not mistaken for a new store.
        names = [name for name in directory.names() if is_own(name) and name != LOCK_NAME]
        for name in sorted(names, key=lambda name: name == MANIFEST_NAME):
            directory.remove(name)
        directory.sync()
    finally:
        directory.close()


class Staging:
    """Changes that wait, on disk, to be put in place together.

    Args:
        store: the replica.
        after: changes have versions above this one.
        keep: they come behind what the store holds; else they take its place.

    Thread-safety: for one thread, which alone writes to the store.
    """

    def __init__(self, store: StoreParts, after: int, *, keep: bool) -> None:
        self._store, self._keep = store, keep
        self._last = after
        self._rows: list[SegmentRow] = []
        self._names: list[str] = []  # of all files that were made, finished or not
        self._output: _Output | None = None

    def add(self, changes: tuple[Change, ...]) -> None:
        """Write changes to a file that is not part of the store yet.

        Raises:
            InvalidRequest: versions do not grow, or a change is none that a store has.
            StorageFull: there is no room; discard() gives back what was taken.
        """
        if not changes:
            return
        output = self._output or self._begin()
        data = packed(changes, self._last, output.salt, output.end)
        output.file.allocate(output.end + len(data))
        output.file.write(data, output.end)
        output.end += len(data)
        self._last = changes[-1].version
        if output.end >= self._store.options.segment_bytes:
            self._finish()

    def _begin(self) -> _Output:
        store = self._store
        segment_id = store.take_id()
        self._names.append(segment_file.file_name(segment_id))
        first = self._last + 1
        file, salt = segment_file.create(
            store.directory, segment_id, COMPACTED, store.manifest.uuid, first
        )
        self._output = _Output(segment_id, file, salt, first)
        return self._output

    def _finish(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            output.file.shorten(output.end)
            output.file.flush()
            output.file.close_descriptor()
            self._rows.append(
                SegmentRow(output.id, COMPACTED, output.first_version, self._last, output.end)
            )

    def adopt(self, version: int) -> None:
        """Put everything in place: the store then holds what its source did at a version."""
        self._finish()
        store = self._store
        if version < max(self._last, store.applied_version):
            raise InvalidRequest(
                f"the store has come to version {store.applied_version}, what was staged to "
                f"{self._last}: neither goes back to {version}"
            )
        store.maintenance.run(lambda: self._put_in_place(version))
        store.announce()

    def _put_in_place(self, version: int) -> None:
        store = self._store
        store.commits.sync()
        old = [] if self._keep else [segment_file.file_name(row.id) for row in store.rows]
        kept = _close_log(store)
        origin = store.manifest.origin
        if origin is not None:
            origin = replace(origin, position=version)
        changes: dict[str, Any] = {"version": version, "origin": origin}
        if not self._keep:
            # Deletes that the source has forgotten are in no log: who follows this store from
            # a version before must begin anew as well.
            changes |= {"index": None, "key_runs": (), "forgotten": version}
            old += derived_files(store)
            kept = []

        def finish() -> None:
            self._rows, self._names = [], []  # they are the store's now
            store.exclusively(lambda: _rebuild(store))
            store.loose |= set(old)

        store.replace_manifest(finish, segments=[*kept, *self._rows], **changes)
        try:
            checkpoint.save_index(store)
        except StorageError as error:  # what was taken over is on disk and stays
            logger.warning("could not save the index of a replica: %s", error)

    def discard(self) -> None:
        """Give back the space of what was staged, unless that is the store's now."""
        self._output, self._rows = None, []
        self._store.loose |= set(self._names)
        self._names = []
        with contextlib.suppress(StoreClosed):  # the next open removes them
            self._store.maintenance.run(self._store.remove_loose)


def derived_files(store: StoreParts) -> Sequence[str]:
    """Return the names of the saved index and the key runs."""
    index = store.manifest.index
    return [*store.manifest.key_runs, *([f"{index[0]:08x}.index"] if index else [])]
