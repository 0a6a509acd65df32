"""A folder on disk.

Invariants:

* The folder is held by a descriptor, and each file is reached through it: a folder that was moved
  is gone on in, and what has taken its place at the path is never touched.
* Nothing is made, replaced or removed in a folder that has another store in it by now.
* A new file is made with O_EXCL; folders and files that are made here are for their owner alone.
* replace() never leaves a half-written file under the name.
* Only the process that took the lock gives it back; a forked child just closes its copy.
"""

import contextlib
import errno
import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator

from kvengine.errors import StorageError, StoreClosed, StoreLocked, pass_on
from kvengine.file.directory import GUARD_NAME, Directory, Rename
from kvengine.file.folder import Descriptor, Folder, FolderLock, rest
from kvengine.file.folders import (
    make_folder,
    open_folder,
    open_to_lock,
    still_locking,
    try_flock,
    unlock,
    warn_if_loose,
)
from kvengine.file.mapped import MappedFile
from kvengine.file.output import (
    FILE_MODE,
    NEW,
    LocalOutput,
    link_file,
    open_to_read,
    refusals,
    send,
)
from kvengine.file.system import fork_watch

LOCK_NAME = "LOCK"
OPENING_NAME = "OPENING"  # held with flock while a process opens or closes the store
OPENING_S = 60.0  # the longest wait for another process that does
READ_BYTES = 1 << 16
LOCK_ATTEMPTS = 10  # a reader that checks for a writer holds it for microseconds
LOCK_PAUSE_S = 0.002


class LocalDirectory:
    """A folder on disk; see Directory.

    Raises:
        NotAStore: the path is a file, or missing and not to be made.
        StorageError: a system call failed.

    Thread-safety: threads may share it, also while one of them closes it.
    """

    def __init__(self, path: str, *, create: bool = True, folder: Folder | None = None) -> None:
        self.path = os.path.abspath(path)
        self._lock = FolderLock()
        self._guard: Descriptor | None = None  # of opening()
        self._was_left_open = False
        self._folder: Folder | None = folder
        fork_watch(self, LocalDirectory.after_fork_in_child)  # also while it is being opened
        if folder is None:
            with refusals("use the folder", self.path):
                if create and not os.path.lexists(self.path):
                    make_folder(self.path)
                self._folder = open_folder(self.path)

    @property
    def folder(self) -> Folder:
        """The open folder.

        Raises:
            StoreClosed: it was given back.
        """
        folder = self._folder
        if folder is None:
            raise StoreClosed("the store is closed")
        return folder

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """Return the names of all files."""
        folder = self.folder
        with refusals("list the folder", self.path):
            # How far a listing has come belongs to the descriptor: neither another thread nor a
            # forked child, which has the same, may list with this one.
            again = Folder(self.path, folder)
            found = os.listdir(again.fd)
        if not found:
            self.check_present()
        return found

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        with refusals("look at", self._at(name), may_be_missing=True):
            return self._stat(name).st_size

    def allocated(self, name: str) -> int:
        """Return the bytes of the blocks that a file occupies; 0 if it is gone."""
        try:
            return self._stat(name).st_blocks * 512
        except FileNotFoundError:
            return 0

    def _stat(self, name: str) -> os.stat_result:
        folder = self.folder
        return os.stat(name, dir_fd=folder.fd)

    def read(self, name: str) -> bytes:
        """Return a whole, small file."""
        folder = self.folder
        with (
            refusals("read", self._at(name), may_be_missing=True),
            Descriptor(name, os.O_RDONLY, folder=folder.fd) as file,
        ):
            return b"".join(iter(lambda: os.read(file.fd, READ_BYTES), b""))

    # -- changes

    def _to_change(self) -> Folder:
        """Return the folder, if a change would be one of this store."""
        folder = self.folder
        problem = folder.problem()
        if problem is not None:
            raise problem
        return folder

    def replace(
        self,
        name: str,
        data: bytes,
        *,
        durable: bool = True,
        temporary: str | None = None,
        rename: Rename | None = None,
    ) -> None:
        """Put a file with these bytes in the place of the old one; after a crash it is either."""
        folder, temporary = self._to_change(), temporary or name + ".tmp"
        self._unlink(folder, temporary)  # left by a process that was killed here
        output = LocalOutput(self._at(temporary), folder=folder.fd)
        try:
            try:
                output.write(data)
                if durable:
                    output.sync()
                if folder.watches(name):
                    with refusals("hold", self._at(temporary)):
                        folder.expect(output.fileno())
            finally:
                output.close()
            self.check_present()  # as late as can be
            with refusals("rename", self._at(temporary)):
                act = functools.partial(
                    os.rename, temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd
                )
                if rename is None:
                    act()
                else:
                    rename(act, folder, temporary)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder.fd)
            raise
        if durable:
            self.sync()

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], *, durable: bool = True
    ) -> None:
        """Replace a small file by the result of `change`, atomically."""
        folder, path = self._to_change(), self._at(GUARD_NAME)
        with refusals("lock", path):
            guard = open_to_lock(GUARD_NAME, folder)
        try:
            with refusals("lock", path):
                fcntl.flock(guard, fcntl.LOCK_EX)
            try:
                data = self.read(name)
            except FileNotFoundError:
                data = None
            changed = change(data)
            if changed is not None:
                self.replace(name, changed, durable=durable)
        finally:
            unlock(guard)
            guard.close()

    def create(self, name: str) -> LocalOutput:
        """Make a new file."""
        return LocalOutput(self._at(name), folder=self._to_change().fd)

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
        flags = os.O_CLOEXEC | (os.O_RDWR if writable else os.O_RDONLY)
        if create or new:
            flags |= NEW if new else os.O_CREAT
        folder = self._to_change() if create or new else self.folder
        path = self._at(name)
        with refusals("open", path, may_be_missing=not (create or new)):
            file = Descriptor(name, flags, FILE_MODE, folder.fd)
        return MappedFile(file, path, map_bytes, writable)

    def remove(self, name: str) -> None:
        """Remove a file; a missing file, or a missing folder, is not an error."""
        folder = self.folder
        if folder.problem() is not None:
            return  # the name is another's by now
        self._unlink(folder, name)

    def _unlink(self, folder: Folder, name: str) -> None:
        with refusals("remove", self._at(name)), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fd)

    def sync(self) -> None:
        """Wait until all present names are on disk."""
        folder = self._to_change()
        with refusals("sync the folder", self.path):
            os.fsync(folder.fd)

    def link(self, name: str, target: Directory) -> None:
        """Link a file into another folder; share its blocks, or copy it, where that can't be."""
        folder = self.folder
        if folder.problem() is not None:
            raise FileNotFoundError(errno.ENOENT, "the file went with its folder", self._at(name))
        with refusals("copy", self._at(name), may_be_missing=True):
            if isinstance(target, LocalDirectory):
                link_file(name, folder.fd, target._to_change().fd)
            else:
                with open_to_read(name, folder.fd) as reader:
                    send(reader, target.create(name))

    # -- identity of the folder

    def watch(self, name: str, *, beside: str | None = None) -> None:
        """Identify the store by a file from now on; one `beside` it must exist, too."""
        self.folder.watch(name)
        if beside is not None:
            self.folder.require(beside)

    def check_present(self) -> None:
        """Raise if the folder is gone, or holds another store."""
        problem = self.folder.problem()
        if problem is not None:
            raise problem

    def check_path(self) -> None:
        """Raise if another folder is at the path now."""
        folder = self.folder
        try:
            there = os.stat(self.path)
        except OSError as error:
            pass_on(error)
            return  # moved, or gone: then check_present() says so
        held = os.fstat(folder.fd)
        if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            raise StorageError(
                errno.ESTALE,
                "another folder is now at the path of the store; this store is open in the one "
                "that was there before: close it and open the path again",
                self.path,
            )

    # -- the lock

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Keep others from opening or closing the store meanwhile.

        Green threads do not switch while this waits: another one would find the store half open.
        """
        folder, guard = self._to_change(), self._guard
        if guard is None:  # kept from opening to closing, when there may be no descriptor to be had
            with refusals("open", self._at(OPENING_NAME)):
                guard = open_to_lock(OPENING_NAME, folder)
            self._guard = guard
        try:
            until = time.monotonic() + OPENING_S
            while not try_flock(guard, self._at(OPENING_NAME)):
                if time.monotonic() > until:
                    raise StoreLocked(self.path, self.pid_of_holder(), OPENING_S)
                rest(LOCK_PAUSE_S)
            yield
        finally:
            unlock(guard)

    def lock(self, *, shared: bool = False) -> None:
        """Take the writers' lock, exclusive or shared; StoreLocked if another holder conflicts."""
        if not self.try_lock(shared=shared):
            raise StoreLocked(self.path, self.pid_of_holder())

    def try_lock(self, *, shared: bool = False) -> bool:
        """The same; False if another holder conflicts."""
        folder = self.folder
        for attempt in range(LOCK_ATTEMPTS):
            if attempt:
                rest(LOCK_PAUSE_S)
            with refusals("lock", self._at(LOCK_NAME)):
                if self._lock.take(folder, LOCK_NAME, shared):
                    break
                if not shared and self._lock.take(folder, LOCK_NAME, True):
                    # From here on no reader's check can hold it, so writers share it.
                    if self._lock.take_alone():
                        break
                    self._lock.release(False)
                    return False
        else:
            return False
        try:
            self.check_present()
            self.check_path()
            self._was_left_open = not shared and bool(self._lock_text())
            self._lock.note(b"%d\n" % os.getpid())
            warn_if_loose(folder)
        except BaseException:
            self._lock.release(False)
            raise
        return True

    def share_lock(self) -> None:
        """Let others write, too; inside opening()."""
        self._lock.share()

    def is_last(self) -> bool:
        """Take the lock alone if there is no other writer, until share_lock(); inside opening()."""
        return self._lock.take_alone()

    def pid_of_holder(self) -> int | None:
        """Return a process that has the store open for writing, or None if none is known."""
        text = self._lock_text().split(b"\n")[0]
        return still_locking(self.folder, LOCK_NAME, int(text)) if text.isdigit() else None

    def _lock_text(self) -> bytes:
        try:
            return self.read(LOCK_NAME)[:32]
        except OSError as error:  # there is none, or it may not be read
            pass_on(error)
            return b""

    def was_left_open(self) -> bool:
        """True if the last writer did not close the store, or this is a copy of one in use."""
        return self._was_left_open or (bool(self._lock_text()) and not self.lock_is_held())

    def unlock(self, last: bool = True) -> None:
        """Release the lock if it is held; `last`: no other process has it."""
        self._lock.release(last)

    def lock_is_held(self) -> bool:
        """True if some process has the store open for writing."""
        folder = self._folder
        return folder is not None and self._lock.is_taken(folder, LOCK_NAME)

    def stamp(self, name: str) -> object:
        """Return a value that changes when the file is replaced; None: it does not exist."""
        try:
            found = self._stat(name)
        except OSError as error:
            pass_on(error)
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def reader(self) -> "LocalDirectory":
        """Return the same folder once more, to read, wherever it is now."""
        with refusals("use the folder", self.path):
            folder = Folder(self.path, self.folder)
        return LocalDirectory(self.path, create=False, folder=folder)

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent process, without disturbing it."""
        self._lock.forget()
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def close(self) -> None:
        """Release everything."""
        self._lock.release(False)
        if self._guard is not None:
            self._guard.close()
        self._folder = None  # closed when the last call that uses it has returned
