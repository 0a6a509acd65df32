"""A folder on disk.

Invariants:

* Every descriptor is closed on exec.
* replace() never leaves a half-written file under the name.
* The lock is an flock on the file LOCK, so it dies with its holder, however that ends.
* Only the process that took the lock gives it back; a forked child just closes its copy.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from kvengine.errors import NotAStore, StorageError, StorageFull, StoreLocked
from kvengine.file.directory import GUARD_NAME, Directory, OutputFile
from kvengine.file.mapped import MappedFile

LOCK_NAME = "LOCK"
FICLONE = 0x40049409  # Linux: share the blocks of another file
LOCK_ATTEMPTS = 10  # a reader that asks who writes holds the lock for microseconds
LOCK_PAUSE_S = 0.002
COPY_BYTES = 1 << 20


@contextlib.contextmanager
def refusals(what: str, path: str, *, may_be_missing: bool = False) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what was tried.

    With `may_be_missing` a FileNotFoundError stays what it is: the caller reckons with it.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = StorageFull if full else StorageError
        reason = error.strerror or str(error)
        raise kind(error.errno or errno.EIO, f"cannot {what}: {reason}", path) from error


class LocalOutput:
    """A new file on disk, or with `append` one that goes on."""

    def __init__(self, path: str, *, append: bool = False) -> None:
        self._path = path
        self.size = 0  # of what was written here
        with refusals("create a file", path):
            mode = "ab" if append else "wb"
            self._file = open(path, mode, buffering=0)  # noqa: SIM115  # closed by close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        with refusals("write", self._path):
            while view:
                count = self._file.write(view)
                view = view[count:]
                self.size += count or 0

    def sync(self) -> None:
        """Return when everything written is on disk."""
        with refusals("sync", self._path):
            os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


class LocalDirectory:
    """A folder on disk; see Directory.

    Raises:
        NotAStore: the path is a file, or missing and not to be made.
        StorageError: the system refuses.
    """

    def __init__(self, path: str, *, create: bool = True, read_only: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._lock_fd, self._lock_pid = -1, 0
        self._read_only = read_only
        with refusals("use the folder", self.path):
            if create and not os.path.lexists(self.path):
                _make_folder(self.path)
            try:
                mode = os.stat(self.path).st_mode
            except FileNotFoundError:
                raise NotAStore(f"{self.path} does not exist") from None
            if not stat.S_ISDIR(mode):
                raise NotAStore(f"{self.path} is not a folder, so it is not a kvengine store")

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """Return the names of all files."""
        with refusals("list the folder", self.path):
            return os.listdir(self.path)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        with refusals("look at", self._at(name), may_be_missing=True):
            return os.stat(self._at(name)).st_size

    def allocated(self, name: str) -> int:
        """Return the bytes of the blocks that a file occupies; 0 if it is gone."""
        try:
            return os.stat(self._at(name)).st_blocks * 512
        except FileNotFoundError:
            return 0

    def read(self, name: str) -> bytes:
        """Return a whole, small file."""
        with refusals("read", self._at(name), may_be_missing=True):
            return Path(self._at(name)).read_bytes()

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Put a file with these bytes in the place of the old one; after a crash it is either."""
        temporary = self._at(name + ".tmp")
        output = LocalOutput(temporary)
        try:
            try:
                output.write(data)
                if durable:
                    output.sync()
            finally:
                output.close()
            with refusals("rename", temporary):
                os.rename(temporary, self._at(name))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if durable:
            self.sync()

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], *, durable: bool = True
    ) -> None:
        """Replace a small file by what `change` makes of it, while nobody else does."""
        path = self._at(GUARD_NAME)
        with refusals("lock", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with refusals("lock", path):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                data = self.read(name)
            except FileNotFoundError:
                data = None
            changed = change(data)
            if changed is not None:
                self.replace(name, changed, durable=durable)
        finally:
            os.close(descriptor)

    def create(self, name: str) -> LocalOutput:
        """Make a new file; an old one of that name goes."""
        return LocalOutput(self._at(name))

    def open(
        self, name: str, *, create: bool = False, writable: bool = False, map_bytes: int
    ) -> MappedFile:
        """Open and map a file."""
        flags = os.O_RDWR if writable else os.O_RDONLY
        if create:
            flags |= os.O_CREAT
        path = self._at(name)
        with refusals("open", path, may_be_missing=not create):
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        return MappedFile(descriptor, path, map_bytes, writable)

    def remove(self, name: str) -> None:
        """Remove a file; it is no error if it is gone already."""
        with refusals("remove", self._at(name)), contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name))

    def sync(self) -> None:
        """Return when all names are on disk as they are now."""
        with refusals("sync the folder", self.path):
            sync_folder(self.path)

    def link(self, name: str, target: Directory) -> None:
        """Link a file into another folder; share its blocks, or copy it, where that can't be.

        A file of that name in the other folder is an error: it could be this very file.
        """
        source = self._at(name)
        with refusals("copy", source, may_be_missing=True):
            if isinstance(target, LocalDirectory):
                _link(source, os.path.join(target.path, name))
            else:
                with open(source, "rb") as reader:
                    _send(reader, target.create(name))

    def lock(self) -> None:
        """Become the one writer, or raise StoreLocked with the pid of the one there is."""
        path = self._at(LOCK_NAME)
        with refusals("lock", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if not _try_lock(descriptor):
                    text = os.pread(descriptor, 32, 0).split(b"\n")[0]
                    raise StoreLocked(self.path, int(text) if text.isdigit() else None)
            except BaseException:
                os.close(descriptor)
                raise
        with contextlib.suppress(OSError):  # a full disk: the lock counts, not the text
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._lock_fd, self._lock_pid = descriptor, os.getpid()

    def unlock(self) -> None:
        """Let others write; no error if this is not the writer."""
        if self._lock_fd >= 0 and self._lock_pid == os.getpid():
            with contextlib.suppress(OSError):
                os.ftruncate(self._lock_fd, 0)  # so that nobody is told of a pid that is gone
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        self.after_fork_in_child()

    def lock_is_held(self) -> bool:
        """True if some process is the writer."""
        try:
            descriptor = os.open(self._at(LOCK_NAME), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def reader(self) -> "LocalDirectory":
        """Return the same folder once more, to read."""
        return LocalDirectory(self.path, create=False, read_only=True)

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent process, without disturbing it."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)  # closing a copy leaves the parent's lock alone
            self._lock_fd = -1

    def close(self) -> None:
        """Give everything back."""
        self.after_fork_in_child()


def sync_folder(path: str) -> None:
    """Return when the names in a folder are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(path: str) -> None:
    """Make a folder and those above it, each of which is durable then."""
    missing = [path]
    while not os.path.lexists(parent := os.path.dirname(missing[-1])):
        missing.append(parent)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.mkdir(folder)
        sync_folder(os.path.dirname(folder))


def _try_lock(descriptor: int) -> bool:
    for attempt in range(LOCK_ATTEMPTS):
        if attempt:
            time.sleep(LOCK_PAUSE_S)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # another file system, or one without links
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    """Copy a file and bring it to disk, sharing its blocks where the file system can."""
    with open(source, "rb") as reader, open(target, "xb") as writer:
        try:
            try:
                fcntl.ioctl(writer.fileno(), FICLONE, reader.fileno())
            except OSError:
                while piece := reader.read(COPY_BYTES):
                    writer.write(piece)
            writer.flush()
            os.fsync(writer.fileno())
        except BaseException:
            os.unlink(target)
            raise


def _send(reader: BinaryIO, output: OutputFile) -> None:
    """Copy a file into a folder of another kind."""
    try:
        while piece := reader.read(COPY_BYTES):
            output.write(piece)
        output.sync()
    finally:
        output.close()
