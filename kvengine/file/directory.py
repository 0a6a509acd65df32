"""What the engine may ask of a folder, and what each call promises after a crash.

Invariants:

* The engine meets the operating system through these calls and those of MappedFile, nowhere else;
  so tests can record them, fail them and replay them.
* A name is durable after sync(); the bytes of a file are after its own sync().
"""


from typing import Protocol

from kvengine.file.mapped import MappedFile


class OutputFile(Protocol):
    """A new file that is written from its beginning to its end."""

    size: int

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        ...

    def sync(self) -> None:
        """Return when everything written is on disk."""
        ...

    def close(self) -> None:
        """Give the file back; closing twice is no error."""
        ...


class Directory(Protocol):
    """A folder of files, all of one store."""

    path: str  # for messages

    def names(self) -> list[str]:
        """Return the names of all files."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        ...

    def allocated(self, name: str) -> int:
        """Return the bytes of the blocks that a file occupies; 0 if it is gone."""
        ...

    def read(self, name: str) -> bytes:
        """Return a whole, small file."""
        ...

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Put a file with these bytes in the place of the old one; after a crash it is either."""
        ...

    def create(self, name: str) -> OutputFile:
        """Make a new file; an old one of that name goes."""
        ...

    def open(
        self, name: str, *, create: bool = False, writable: bool = False, map_bytes: int
    ) -> MappedFile:
        """Open and map a file."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; it is no error if it is gone already."""
        ...

    def sync(self) -> None:
        """Return when all names are on disk as they are now."""
        ...

    def link(self, name: str, target: "Directory") -> None:
        """Give a file that never changes any more a place in another folder too."""
        ...

    def lock(self) -> None:
        """Become the one writer, or raise StoreLocked with the pid of the one there is."""
        ...

    def unlock(self) -> None:
        """Let others write; no error if this is not the writer."""
        ...

    def lock_is_held(self) -> bool:
        """True if some process is the writer."""
        ...

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent process, without disturbing it."""
        ...

    def close(self) -> None:
        """Give everything back; closing twice is no error."""
        ...
