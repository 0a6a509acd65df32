"""What a folder holds: a store, the beginnings of one, or something else.

Invariants:

* A folder is a store if it has a manifest.  A folder with other files is left alone.
* Creating a store is atomic: until its manifest is in place there is nothing to open, and an
  interrupted creation is repeated.
* Files that no manifest names (left by a crash between two steps) are removed by a process that
  opens the store alone, or replaces the manifest (store_files.py).
"""

from __future__ import annotations

import secrets
import uuid

from kvengine.engine.index import index_file
from kvengine.engine.log import manifest as manifests
from kvengine.engine.log.manifest import Manifest
from kvengine.engine.log.names import MANIFEST_NAME, consumer_of, id_of, is_data, is_own
from kvengine.errors import CorruptData, NotAStore
from kvengine.file.directory import Directory


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
    """Return the manifest; with `create`, create a new store if there is none.

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


def newest_manifest(directory: Directory) -> Manifest:
    """Return the manifest that is in place."""
    return manifests.decode(directory.read(MANIFEST_NAME), MANIFEST_NAME)


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


def used_ids(names: list[str], manifest: Manifest) -> list[int]:
    """Return the number after that of each file that is or was there: none is given twice."""
    index = [index_file.file_name(manifest.index[0])] if manifest.index else []
    every = [*names, *manifest.key_runs, *index]
    return [number + 1 for name in every if (number := id_of(name)) is not None]
