"""New files on disk: made, written from the beginning to the end, or copied.

Invariants:

* A new file of a store is made with O_EXCL and for its owner alone; what has the name already is
  never written to.
* A failed system call is a StorageError that says what was attempted.
"""

import errno
import fcntl
import functools
import os
from typing import BinaryIO

from kvengine.errors import StorageError, StorageFull, pass_on
from kvengine.file.directory import OutputFile
from kvengine.file.folder import Descriptor

FILE_MODE = 0o600
NEW = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
FICLONE = 0x40049409  # Linux: share the blocks of another file
COPY_BYTES = 1 << 20


class refusals:  # noqa: N801  # reads as a verb: with refusals("open", path)
    """Convert an OSError into a StorageError that names the operation.

    With `may_be_missing` a FileNotFoundError stays what it is: the caller reckons with it.
    """

    __slots__ = ("_may_be_missing", "_path", "_what")  # a generator would cost more than the call

    def __init__(self, what: str, path: str, *, may_be_missing: bool = False) -> None:
        self._what, self._path, self._may_be_missing = what, path, may_be_missing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError) or isinstance(error, StorageError):
            return
        pass_on(error)
        if self._may_be_missing and isinstance(error, FileNotFoundError):
            return
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = error.strerror or str(error)
        raise (StorageFull if full else StorageError)(
            error.errno or errno.EIO, f"cannot {self._what}: {reason}", self._path
        ) from error


class LocalOutput:
    """A file on disk that is written from its beginning, or its end, on.

    Args:
        path: where it is, and for messages.
        flags: as of os.open().
        folder: the descriptor of the folder that `path` lies in; only its last part counts then.
        mode: the permissions of a new file.
    """

    def __init__(
        self, path: str, flags: int = NEW, *, folder: int | None = None, mode: int = FILE_MODE
    ) -> None:
        self._path = path
        self.size = 0  # of what was written here
        name = path if folder is None else os.path.basename(path)
        with refusals("create a file", path):
            self._file = Descriptor(name, flags | os.O_WRONLY, mode, folder)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        with refusals("write", self._path):
            while view:
                count = os.write(self._file.fd, view)
                view = view[count:]
                self.size += count

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fd

    def sync(self) -> None:
        """Wait until everything written is on disk."""
        with refusals("sync", self._path):
            os.fdatasync(self._file.fd)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def sync_folder(path: str) -> None:
    """Wait until the names in a folder are on disk."""
    with Descriptor(path, os.O_RDONLY | os.O_DIRECTORY) as folder:
        os.fsync(folder.fd)


def link_file(name: str, source: int, target: int) -> None:
    """Link a file from one folder into another; share its blocks, or copy it, where that can't be.

    Raises:
        FileExistsError: there is a file of that name: it could be this very one.
    """
    try:
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:  # another file system, or one without links
        pass_on(error)
        _copy(name, source, target)


def _copy(name: str, source: int, target: int) -> None:
    """Copy a file and bring it to disk, sharing its blocks where the file system can."""
    with (
        open_to_read(name, source) as reader,
        Descriptor(name, NEW | os.O_WRONLY, FILE_MODE, target) as writer,
    ):
        try:
            try:
                fcntl.ioctl(writer, FICLONE, reader.fileno())
            except OSError as error:
                pass_on(error)
                while piece := reader.read(COPY_BYTES):
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(writer.fd, view) :]
            os.fsync(writer.fd)
        except BaseException:
            os.unlink(name, dir_fd=target)
            raise


def open_to_read(name: str, folder: int) -> BinaryIO:
    """Open a file of a folder."""
    # One call: nothing comes between the descriptor and the object that closes it.
    return open(name, "rb", buffering=0, opener=functools.partial(os.open, dir_fd=folder))


def send(reader: BinaryIO, output: OutputFile) -> None:
    """Copy a file into a folder of another kind."""
    try:
        while piece := reader.read(COPY_BYTES):
            output.write(piece)
        output.sync()
    finally:
        output.close()
