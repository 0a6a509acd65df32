"""Backup: a consistent copy of a store while it is in use.

Invariants:

* The copy is the store as of one version, with whole batches, and opens as a store.
* Files that no longer change are linked where the file system allows it.  The segment being
  written, and files that the writer removes under a reader, are copied up to their end.
* The manifest is written last, so an interrupted backup is not a store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvengine.engine import opening
from kvengine.engine.index import index_file
from kvengine.engine.log import segment_file
from kvengine.engine.log.names import MANIFEST_NAME
from kvengine.engine.log.segment import bytes_at
from kvengine.engine.parts import StoreParts
from kvengine.errors import CorruptData, InvalidRequest
from kvengine.file.directory import Directory
from kvengine.file.local import LocalDirectory
from kvengine.file.mapped import MappedFile

Progress = Callable[[int, int], None]
COPY_BYTES = 1 << 20


def backup(store: StoreParts, target: Any, progress: Progress | None) -> int:
    """Copy a store into the new folder `target`; return the version of the copy.

    Raises:
        InvalidRequest: `target` has files in it.
    """
    directory = LocalDirectory(opening.folder_path(target), create=True)
    try:
        if directory.names():
            raise InvalidRequest(
                f"{directory.path} is not empty; a backup needs a new or empty folder"
            )
        if store.follower is not None:
            store.follower.refresh()
        with store.pins.pin():  # jobs go on, but leave the files that are copied
            return _copy(store, directory, progress)
    finally:
        directory.close()


def _copy(store: StoreParts, target: Directory, progress: Progress | None) -> int:
    now = store.as_of_now()
    manifest = now.manifest
    total, done = sum(now.ends.values()), 0
    for row in now.rows:
        name = segment_file.file_name(row.id)
        if row.size_bytes is None or not _link(store, name, target, row.size_bytes):
            _copy_mapped(now.files[row.id], name, target, now.ends[row.id])
        done += now.ends[row.id]
        if progress is not None:
            progress(done, total)
    linked = all(_link(store, name, target) for name in manifest.key_runs)
    if linked and manifest.index is not None:
        number, size_bytes = manifest.index
        linked = _link(store, index_file.file_name(number), target, size_bytes)
    if not linked:
        manifest = replace(manifest, index=None, key_runs=())  # the copy makes its own
    target.sync()
    newest = max((row.id for row in now.rows), default=0)
    copy = manifest.next(
        segments=now.rows, next_id=max(newest + 1, manifest.next_id), version=now.version
    )
    target.replace(MANIFEST_NAME, copy.encode(), durable=True)
    return now.version


def _link(store: StoreParts, name: str, target: Directory, size_bytes: int | None = None) -> bool:
    """Link a file, of a known size if that is given; False if it is gone.

    The writer has replaced the file, or the whole folder was removed.

    Raises:
        CorruptData: another program has changed its size.
    """
    folder = store.directory.folder
    if folder is not None and folder.problem() is not None:
        return False  # another store may have a file of that name
    try:
        found = store.directory.size(name)
        if size_bytes is not None and found != size_bytes:
            raise CorruptData(
                "size of a file that never changes",
                file=name,
                offset=0,
                expected=size_bytes,
                found=found,
            )
        store.directory.link(name, target)
    except FileNotFoundError:
        if store.follower is None:
            raise
        return False
    return True


def _copy_mapped(file: MappedFile, name: str, target: Directory, end: int) -> None:
    """Copy the part of a segment that is in use; its file may have no name any more."""
    output = target.create(name)
    try:
        for start in range(0, end, COPY_BYTES):
            output.write(bytes_at(file, start, min(COPY_BYTES, end - start)))
        output.sync()
    finally:
        output.close()
