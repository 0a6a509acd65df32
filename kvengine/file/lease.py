"""A lease: a file of a folder that one process at a time has locked.

Invariants:

* The lock (flock) ends with release(), when the last user has left or the lease is dropped, or with
  the process, however that ends.  A child of a fork has a copy of the descriptor, which would hold
  it on: it closes that before any other Python code runs, and no program that is executed has one.
* The holder has the file that bears the name: a removed file is no lease any more.
* The text of the file says which process took it last; the lock counts.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING
from weakref import WeakSet

from kvengine.errors import pass_on
from kvengine.file.folder import Descriptor
from kvengine.file.folders import unlock
from kvengine.file.output import FILE_MODE, refusals
from kvengine.file.system import fork_watch, process_id

if TYPE_CHECKING:
    from kvengine.file.directory import Directory
    from kvengine.file.folder import Folder

FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
ATTEMPTS = 100  # the file may be removed between two steps


class Lease:
    """A lease in a folder; take() has it locked.

    Thread-safety: threads may share it.
    """

    __slots__ = ("__weakref__", "_file", "_folder", "_name", "_pid", "is_over", "users")

    def __init__(self, name: str, folder: Folder | None) -> None:
        self._name, self._folder = name, folder
        self._file: Descriptor | None = None
        self._pid = process_id()
        self.is_over = False  # it was given back, or stayed with the parent process
        self.users: WeakSet[object] = WeakSet()
        fork_watch(self, Lease.release)

    @property
    def is_held(self) -> bool:
        """True as long as this process has it: it was not given back, and the file is there."""
        folder, file = self._folder, self._file
        if folder is None or file is None or self.is_over:
            return not self.is_over
        try:
            there = os.stat(self._name, dir_fd=folder.fd, follow_symlinks=False)
            held = os.fstat(file.fileno())
        except OSError as error:
            pass_on(error)
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def leave(self, user: object) -> None:
        """Let others take it, unless it has another user here."""
        self.users.discard(user)
        if not self.users:
            self.release()

    def release(self) -> None:
        """Release it; releasing it twice is not an error."""
        self.is_over = True
        if self._file is not None:
            if self._pid == process_id():  # a child forked without Python has a copy
                unlock(self._file)
            self._file.close()
        self._folder = None

    def lock(self, folder: Folder) -> bool:
        """Lock the file, and write down which process has; False if another one has.

        Raises:
            OSError: a system call failed.
        """
        # A fork from here on finds it in its place, and closes the child's copy.
        self._file = Descriptor(self._name, FLAGS, FILE_MODE, folder.fd, locks=True)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pass_on(error)
            return False
        try:
            # Always of this width: nothing has to be cut off, which takes a millisecond.
            os.pwrite(self._file.fileno(), b"%-10d\n" % process_id(), 0)
        except OSError as error:  # on a full disk the holder stays unnamed
            pass_on(error)
        return True


def take(directory: Directory, name: str) -> Lease | None:
    """Take the lease of a name, without waiting; None if it is taken.

    What is in memory belongs to one process, so its leases are always free.

    Raises:
        StorageError: this process may not write to the folder, or it is another one by now.
    """
    directory.check_present()
    folder = directory.folder
    if folder is None:
        return Lease(name, None)
    with refusals("take the lease", os.path.join(directory.path, name)):
        for _ in range(ATTEMPTS):
            lease = Lease(name, folder)
            if not lease.lock(folder):
                return None
            if lease.is_held:
                return lease
    return None


def holder(directory: Directory, name: str) -> int | None:
    """Return the process that took the lease of a name last; None: it is not known."""
    try:
        text = directory.read(name)[:32].strip()
    except OSError as error:
        pass_on(error)
        return None
    return int(text) if text.isdigit() else None
