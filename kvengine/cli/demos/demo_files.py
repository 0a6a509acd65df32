"""The input of the demo: real files, as keys and values.

Invariants:
* a key is the path below the root, as the bytes that the system has; the order is byte order;
* a file counts as changed only by what the file system says, never by what the store says.
"""

import json
import os
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kvengine.options import KEY_BYTES_MAX, VALUE_BYTES_MAX

BATCH_BYTES = 8 << 20
INSTALLED_FOLDERS = frozenset({b"site-packages", b"dist-packages"})


class SourceFile(NamedTuple):
    """A file as it was when the demo began."""

    key: bytes
    path: bytes
    size_bytes: int
    mode: int
    mtime_ns: int


class Contents(NamedTuple):
    """What the store should hold for a file."""

    value: bytes
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """The files below one folder, and how many had to be left out."""

    root: bytes
    files: tuple[SourceFile, ...]  # by key
    unreadable: int
    too_large: int
    names_too_long: int

    @property
    def size_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(file.size_bytes for file in self.files)


def standard_library() -> str:
    """Return the folder of the standard library of the running Python."""
    return sysconfig.get_path("stdlib")


def find_files(root: str, without: frozenset[bytes] = frozenset()) -> Tree:
    """Return the regular files below *root*, except in folders at its top named in *without*."""
    base = os.path.abspath(os.fsencode(root))
    files: list[SourceFile] = []
    unreadable = too_large = too_long = 0

    def count_folder(_error: OSError) -> None:
        nonlocal unreadable
        unreadable += 1

    for folder, folders, names in os.walk(base, onerror=count_folder):
        if folder == base:
            folders[:] = [name for name in folders if name not in without]
        for name in names:
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except OSError:
                unreadable += 1
                continue
            if not stat.S_ISREG(status.st_mode):
                continue  # to read a pipe or a device would wait forever
            key = os.path.relpath(path, base)
            if status.st_size > VALUE_BYTES_MAX:
                too_large += 1
            elif len(key) > KEY_BYTES_MAX:
                too_long += 1
            elif not os.access(path, os.R_OK):
                unreadable += 1
            else:
                files.append(
                    SourceFile(key, path, status.st_size, status.st_mode, status.st_mtime_ns)
                )
    return Tree(base, tuple(sorted(files)), unreadable, too_large, too_long)


def read_contents(path: bytes) -> Contents | None:
    """Return what to store for the file at *path*; None if it cannot be read now."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            value = file.read(VALUE_BYTES_MAX + 1)
    except OSError:
        return None
    return Contents(value, metadata_of(status.st_mode, status.st_mtime_ns))


def metadata_of(mode: int, mtime_ns: int) -> bytes:
    """Return the metadata that the demo stores with a file."""
    return json.dumps({"mode": f"{mode:o}", "mtime_ns": mtime_ns}).encode()


def expected_contents(file: SourceFile) -> Contents | None:
    """Return what the store must hold for *file*; None if the file changed since the start."""
    contents = read_contents(file.path)
    if contents is None or len(contents.value) != file.size_bytes:
        return None
    return contents if contents.metadata == metadata_of(file.mode, file.mtime_ns) else None


def in_pieces(files: Sequence[SourceFile], count_max: int = 256) -> Iterator[list[SourceFile]]:
    """Cut *files* into runs that are small enough to be held in memory."""
    piece: list[SourceFile] = []
    size_bytes = 0
    for file in files:
        if piece and (len(piece) == count_max or size_bytes + file.size_bytes > BATCH_BYTES):
            yield piece
            piece, size_bytes = [], 0
        piece.append(file)
        size_bytes += file.size_bytes
    if piece:
        yield piece
