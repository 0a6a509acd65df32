"""What the engine may ask of a folder, and what each call promises after a crash.

Invariants:

* The engine meets the operating system through these calls and those of MappedFile, nowhere else;
  so tests can record them, fail them and replay them.
* A name is durable after sync(); the bytes of a file are after its own sync().  Until then a crash
  of the machine may keep or lose each of them, in any order.
* A folder stays the one that was opened, wherever it is moved and whatever is at its path.
* A failed system call is a StorageError.  Only calls that look at a file which may be missing
  raise FileNotFoundError, and say so.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from kvengine.file.folder import Folder
from kvengine.file.mapped import MappedFile

GUARD_NAME = "CONSUMERS"  # the lock of update()
# Called for the rename of replace(): with what does it, and for who does that himself with the
# folder, if there is one on disk, and the name before.
Rename = Callable[[Callable[[], None], Folder | None, str], None]


class OutputFile(Protocol):
    """A new file that is written from its beginning to its end."""

    size: int

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; a crash may leave any part of them, in any order, until sync()."""
        ...

    def sync(self) -> None:
        """Wait until everything written is on disk; the name needs the folder's sync(), too."""
        ...

    def close(self) -> None:
        """Close the file without a sync; closing it twice is not an error."""
        ...


class Directory(Protocol):
    """A folder of files, all of one store."""

    path: str  # for messages

    @property
    def folder(self) -> Folder | None:
        """The open folder; None: it is not on disk."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a file in bytes.

        Raises:
            FileNotFoundError: no file has that name.
        """
        ...

    def allocated(self, name: str) -> int:
        """Return the bytes of the blocks that a file occupies; 0 if it is gone."""
        ...

    def read(self, name: str) -> bytes:
        """Return a whole, small file.

        Raises:
            FileNotFoundError: no file has that name.
        """
        ...

    def replace(
        self,
        name: str,
        data: bytes,
        *,
        durable: bool = True,
        temporary: str | None = None,
        rename: Rename | None = None,
    ) -> None:
        """Put a file with these bytes in the place of the old one; after a crash it is either.

        With `durable` it is the new one once the call has returned.  Without it a crash of the
        machine, though not of the process, may also leave parts of it, or nothing.

        Args:
            temporary: the name of the new file until then.
            rename: carries out the rename, or has it carried out; what it raises undoes all.
        """
        ...

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], *, durable: bool = True
    ) -> None:
        """Replace a small file by what `change` makes of it, while no other process or thread does.

        `change` gets None if there is no file; None as its answer leaves everything as it is.
        What it raises leaves everything as it is, too.
        """
        ...

    def create(self, name: str) -> OutputFile:
        """Make a new file; there must be none of that name.

        After a crash it may be there in part or not at all, until it and the folder are synced.
        """
        ...

    def open(
        self,
        name: str,
        *,
        create: bool = False,
        new: bool = False,
        writable: bool = False,
        map_bytes: int,
    ) -> MappedFile:
        """Open and map a file; one that is made is durable as those of create() are.

        Args:
            create: create the file if no file has that name.
            new: make it; there must be none of that name.

        Raises:
            FileNotFoundError: no file has that name, and none may be created.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file; a missing file, or a missing folder, is not an error.

        Mappings and open files go on working.  Until sync() a crash may bring the name back.
        """
        ...

    def sync(self) -> None:
        """Wait until all present names are on disk."""
        ...

    def link(self, name: str, target: "Directory") -> None:
        """Give a file that never changes any more a place in another folder too.

        Its bytes are durable there if they are here; its name is after the other folder's sync().

        Raises:
            FileNotFoundError: no file has that name.
        """
        ...

    def watch(self, name: str, *, beside: str | None = None) -> None:
        """Identify the store by a file from now on; replace() of it is allowed.

        From then on nothing is made, replaced or removed in the folder if the file is gone or
        another one, or if one that should lie `beside` it is gone.  If there is no file of that
        name, only the removal of the folder is noticed.
        """
        ...

    def check_present(self) -> None:
        """Raise StorageError if what is written here is lost: see watch()."""
        ...

    def check_path(self) -> None:
        """Raise StorageError if another folder is now at the path; a missing one is fine."""
        ...

    def opening(self) -> AbstractContextManager[None]:
        """Keep others from opening or closing the store meanwhile.

        Raises:
            StoreLocked: another process has done so for a minute.
        """
        ...

    def lock(self, *, shared: bool = False) -> None:
        """Take the writers' lock, exclusive or shared; raise StoreLocked on a conflict.

        The lock ends with unlock(), with close(), or with the process, however that ends.
        """
        ...

    def try_lock(self, *, shared: bool = False) -> bool:
        """The same; False if another holder conflicts."""
        ...

    def share_lock(self) -> None:
        """Let others write, too; inside opening()."""
        ...

    def is_last(self) -> bool:
        """Take the lock alone if there is no other writer, until share_lock(); inside opening()."""
        ...

    def unlock(self, last: bool = True) -> None:
        """Release the lock if it is held; `last`: no other process has it."""
        ...

    def lock_is_held(self) -> bool:
        """True if some process has the store open for writing."""
        ...

    def stamp(self, name: str) -> object:
        """Return a value that changes when the file is replaced; None: it does not exist."""
        ...

    def pid_of_holder(self) -> int | None:
        """Return a process that has the store open for writing, or None if none is known.

        It is the one that came last, as long as that one is there.
        """
        ...

    def was_left_open(self) -> bool:
        """True if the last writer did not close the store, or this is a copy of one in use."""
        ...

    def reader(self) -> "Directory":
        """Return a second, read-only handle of the folder, closed on its own."""
        ...

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent process, without disturbing it."""
        ...

    def close(self) -> None:
        """Release everything; closing it twice is not an error."""
        ...
