"""Files by which data leaves a store and comes into one; they belong to users.

Invariants:

* A result has its name only when it is whole and on disk; until then it is NAME.part, and what was
  there under the name stays.
* What is cut off an unfinished result is never a complete line, and only cut off when it goes on.
"""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from kvengine.errors import InvalidRequest, InvalidType
from kvengine.file.output import LocalOutput, refusals, sync_folder

SYNC_BYTES = 32 << 20  # the disk works while more is made; little is left to wait for at the end
BLOCK_BYTES = 1 << 20
WHOLE = os.O_CREAT | os.O_TRUNC
APPENDED = os.O_CREAT | os.O_APPEND
MODE = 0o666  # a user's file: the umask decides


def path_of(file: Any) -> str:
    """Return a path as text.

    Raises:
        InvalidType: it is not a path.
    """
    try:
        return os.fsdecode(file)
    except TypeError:
        raise InvalidType(
            f"a file must be a path or a binary file object, not {type(file).__name__}"
        ) from None


class ResultFile:
    """A file that is written from its beginning to its end.

    Pipes and devices are written as they are, without the detour over NAME.part.

    Args:
        path: where it is to be; an old file there is replaced by finish().
        resume: go on behind the last complete line of NAME.part, which `last_line` then is; it is
            None if there is nothing to go on with.

    Raises:
        StorageError: a system call failed.
        InvalidRequest: what is there can't be resumed.

    Thread-safety: for one thread.
    """

    def __init__(self, path: str, *, resume: bool = False) -> None:
        self.last_line: bytes | None = None
        self._path = os.path.realpath(path)  # what a link points to is replaced, not the link
        self._part = self._path + ".part"
        self._is_plain = _is_plain(self._path)
        self._unsynced = 0
        self._rest_at: int | None = None  # where what is to be cut off begins
        self._worker: ThreadPoolExecutor | None = None
        self._sync: Future[None] | None = None
        if not self._is_plain:
            if resume:
                raise InvalidRequest(f"{path} is not a regular file, so it can't be resumed")
            self._output = LocalOutput(self._path, WHOLE, mode=MODE)
            return
        if resume and os.path.exists(self._part):
            self._rest_at, self.last_line = _complete_lines(self._part)
        flags = APPENDED if self.last_line is not None else WHOLE
        self._output = LocalOutput(self._part, flags | os.O_NOFOLLOW, mode=MODE)

    def write(self, data: bytes | bytearray) -> None:
        """Append bytes; now and then they are brought to disk in the background."""
        self._cut()
        self._output.write(data)
        self._unsynced += len(data)
        if self._is_plain and self._unsynced >= SYNC_BYTES:
            if self._sync is not None:
                if not self._sync.done():
                    return
                self._sync.result()
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "kvengine-export")
            self._sync, self._unsynced = self._worker.submit(self._output.sync), 0

    def _cut(self) -> None:
        if self._rest_at is not None:
            with refusals("cut", self._part):
                os.truncate(self._part, self._rest_at)
            self._rest_at = None

    def finish(self) -> None:
        """Bring everything to disk, then give the file its name."""
        if not self._is_plain:
            return
        self._cut()
        if self._sync is not None:
            self._sync.result()
        self._output.sync()
        with refusals("rename", self._part):
            os.replace(self._part, self._path)
            sync_folder(os.path.dirname(self._path))

    def close(self) -> None:
        """Give everything back; what is unfinished stays as NAME.part."""
        if self._worker is not None:
            self._worker.shutdown()
        self._output.close()


def _is_plain(path: str) -> bool:
    """True for a file that can be replaced, or may be made.

    Raises:
        StorageError: it is a folder, or a system call failed.
    """
    with refusals("write to", path):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            return True
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, "it is a folder")
        return stat.S_ISREG(mode)


def _complete_lines(path: str) -> tuple[int, bytes | None]:
    """Return where the complete lines of a file end, and the last of them."""
    with refusals("resume", path), open(path, "rb") as file:
        end = _line_start(file, file.seek(0, os.SEEK_END))
        if end == 0:
            return 0, None
        start = _line_start(file, end - 1)
        file.seek(start)
        return end, file.read(end - start)


def _line_start(file: BinaryIO, end: int) -> int:
    """Return where the line begins that goes on up to `end`."""
    while end:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def open_source(path: str) -> BinaryIO:
    """Open a file to be read; its name is the full path.

    Raises:
        StorageError: the file does not exist, or a system call failed.
    """
    with refusals("read", path):
        return open(os.path.realpath(path), "rb", buffering=0)


def bytes_to_come(file: Any) -> int:
    """Return how many bytes there are to read from an open file; 0 if that is not known."""
    try:
        found = os.fstat(file.fileno())
        return max(found.st_size - file.tell(), 0) if stat.S_ISREG(found.st_mode) else 0
    except (OSError, ValueError, AttributeError):
        return 0  # not a file of the system, or one without a position
