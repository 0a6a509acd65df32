"""A folder that is only in memory: same calls, same mappings, nothing on disk.

Invariants:

* Files are anonymous descriptors (memfd), so MappedFile works on them unchanged.
* Everything is gone when the folder and all views of its files are.
* A descriptor belongs to one name, or to one open file; nothing is left open when a call fails.
"""

import contextlib
import errno
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator

from kvengine.file.directory import Directory, Rename
from kvengine.file.mapped import MappedFile
from kvengine.file.output import refusals


def _anonymous(name: str) -> int:
    with refusals("make a file in memory", name):
        if hasattr(os, "memfd_create"):
            # Some sandboxes refuse memfd; any other failure shows again below.
            with contextlib.suppress(OSError):
                return os.memfd_create(name, os.MFD_CLOEXEC)
        descriptor, path = tempfile.mkstemp(prefix="kvengine-")
        os.unlink(path)
        return descriptor


class MemoryOutput:
    """A new file in memory."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name, self.size = -1, name, 0
        with refusals("create a file", name):
            self._descriptor = os.dup(descriptor)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        with refusals("write", self._name):
            while view:
                count = os.pwrite(self._descriptor, view, self.size)
                view = view[count:]
                self.size += count

    def sync(self) -> None:
        """There is no disk to wait for."""

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class MemoryDirectory:
    """A folder in memory; see Directory."""

    path = ":memory:"
    folder = None

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        # Readers look while the writer removes a file, signal handlers while their thread does.
        self._lock = threading.RLock()
        self._updating = threading.Lock()
        self._owner = True

    @contextlib.contextmanager
    def _borrowed(self, name: str) -> Iterator[int]:
        """Give a descriptor of a file that stays open inside."""
        with self._lock:
            try:
                descriptor = os.dup(self._files[name])
            except KeyError:
                raise FileNotFoundError(2, "no such file in memory", name) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def names(self) -> list[str]:
        """Return the names of all files."""
        return list(self._files)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        with refusals("look at", name, may_be_missing=True), self._borrowed(name) as descriptor:
            return os.fstat(descriptor).st_size

    def allocated(self, name: str) -> int:
        """Nothing is on disk."""
        return 0

    def read(self, name: str) -> bytes:
        """Return a whole, small file."""
        data = b""
        with refusals("read", name, may_be_missing=True), self._borrowed(name) as descriptor:
            size = os.fstat(descriptor).st_size  # a read asks for so much memory at once
            while piece := os.pread(descriptor, size - len(data), len(data)):
                data += piece
        return data

    def replace(
        self,
        name: str,
        data: bytes,
        *,
        durable: bool = True,
        temporary: str | None = None,
        rename: Rename | None = None,
    ) -> None:
        """Put a file with these bytes in the place of the old one."""
        descriptor = _anonymous(name)
        try:
            output = MemoryOutput(descriptor, name)
            try:
                output.write(data)
            finally:
                output.close()
            act = functools.partial(self._put, name, descriptor)
            if rename is not None:
                rename(act, None, name)
        except BaseException:
            if self._files.get(name) != descriptor:
                os.close(descriptor)
            raise
        if rename is None:
            act()

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], *, durable: bool = True
    ) -> None:
        """Replace a small file by the result of `change`, atomically."""
        with self._updating:
            changed = change(self.read(name) if name in self._files else None)
            if changed is not None:
                self.replace(name, changed, durable=durable)

    def create(self, name: str) -> MemoryOutput:
        """Make a new file."""
        descriptor = self._new(name)
        return MemoryOutput(descriptor, name)

    def _new(self, name: str) -> int:
        descriptor = _anonymous(name)
        with refusals("create", name), self._lock:
            if name in self._files:
                os.close(descriptor)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self._files[name] = descriptor
        return descriptor

    def open(
        self,
        name: str,
        *,
        create: bool = False,
        new: bool = False,
        writable: bool = False,
        map_bytes: int,
    ) -> MappedFile:
        """Open and map a file."""
        if new or (create and name not in self._files):
            self._new(name)
        with refusals("open", name, may_be_missing=True), self._borrowed(name) as descriptor:
            return MappedFile(os.dup(descriptor), name, map_bytes, writable)

    def remove(self, name: str) -> None:
        """Remove a file; a missing file is not an error."""
        with self._lock:
            descriptor = self._files.pop(name, -1)
        if descriptor >= 0:
            os.close(descriptor)

    def _put(self, name: str, descriptor: int) -> None:
        with self._lock:
            old = self._files.get(name, -1)
            self._files[name] = descriptor
        if old >= 0:
            os.close(old)

    def reader(self) -> "MemoryDirectory":
        """Return the same files once more, to read."""
        other = MemoryDirectory()
        other._files, other._lock, other._owner = self._files, self._lock, False
        other._updating = self._updating
        return other

    def sync(self) -> None:
        """There is no disk to wait for."""

    def link(self, name: str, target: Directory) -> None:
        """Copy a file into another folder."""
        data = self.read(name)
        output = target.create(name)
        try:
            output.write(data)
            output.sync()
        finally:
            output.close()

    def watch(self, name: str, *, beside: str | None = None) -> None:
        """Nobody else can know this folder."""

    def check_present(self) -> None:
        """It lasts as long as the store."""

    def check_path(self) -> None:
        """It has no path."""

    def opening(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else can know this folder."""
        return contextlib.nullcontext()

    def lock(self, *, shared: bool = False) -> None:
        """Nobody else can know this folder."""

    def try_lock(self, *, shared: bool = False) -> bool:
        """Nobody else can know this folder."""
        return True

    def share_lock(self) -> None:
        """Nobody else can know this folder."""

    def is_last(self) -> bool:
        """Nobody else can know this folder."""
        return True

    def unlock(self, last: bool = True) -> None:
        """Nobody else can know this folder."""

    def pid_of_holder(self) -> int | None:
        """Nobody else can know this folder."""
        return None

    def was_left_open(self) -> bool:
        """Nobody can say."""
        return False

    def lock_is_held(self) -> bool:
        """Nobody else can know this folder."""
        return False

    def stamp(self, name: str) -> object:
        """Return a value that changes when the file is replaced; None: it does not exist."""
        return self._files.get(name)

    def after_fork_in_child(self) -> None:
        """The parent's descriptors are of no use here."""
        self._lock, self._updating = threading.RLock(), threading.Lock()  # not held
        self.close()

    def close(self) -> None:
        """Release everything."""
        for name in list(self._files) if self._owner else ():
            self.remove(name)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()
