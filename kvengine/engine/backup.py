"""Backup: a consistent copy of a store while it is in use.

Invariants:

* The copy is the store as of one version, a whole number of batches, and opens as a store.
* Files that never change any more are linked where the file system allows it; the segment being
  written is copied up to its end.
* The manifest is written last, so a backup that was cut short is no store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvengine.engine import index_file, opening, segment_file
from kvengine.engine.names import MANIFEST_NAME
from kvengine.engine.segment import bytes_at
from kvengine.errors import InvalidRequest
from kvengine.file.directory import Directory
from kvengine.file.local import LocalDirectory

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts

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
            raise InvalidRequest(f"{directory.path} is not empty; a backup needs a new folder")
        with store.jobs:
            if store.follower is not None:
                store.follower.refresh()
            return _copy(store, directory, progress)
    finally:
        directory.close()


def _copy(store: StoreParts, target: Directory, progress: Progress | None) -> int:
    rows, ends, version = store.as_of_now()
    manifest = store.manifest
    total, done = sum(ends.values()), 0
    for row in rows:
        name = segment_file.file_name(row.id)
        if row.size_bytes is not None:
            store.directory.link(name, target)
        else:
            _copy_open(store, target, row.id, ends[row.id])
        done += ends[row.id]
        if progress is not None:
            progress(done, total)
    if manifest.index is not None:
        store.directory.link(index_file.file_name(manifest.index[0]), target)
    for name in manifest.key_runs:
        store.directory.link(name, target)
    target.sync()
    newest = max((row.id for row in rows), default=0)
    copy = manifest.next(
        segments=tuple(rows), next_id=max(newest + 1, manifest.next_id), version=version
    )
    target.replace(MANIFEST_NAME, copy.encode(), durable=True)
    return version


def _copy_open(store: StoreParts, target: Directory, segment_id: int, end: int) -> None:
    """Copy the part of a segment that is in use."""
    file = store.segment_table.segment_file(segment_id)
    output = target.create(segment_file.file_name(segment_id))
    try:
        for start in range(0, end, COPY_BYTES):
            output.write(bytes_at(file, start, min(COPY_BYTES, end - start)))
        output.sync()
    finally:
        output.close()
