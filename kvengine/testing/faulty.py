"""A folder that records every change of its files, and can fail or stop at any of them.

Invariants:

* Each step that changes something on disk has a number, from 1, in the order in which they began;
  what replace() does in one call are several steps, as on a real disk.
* A step that fails has changed nothing, except a write for which `partial_bytes` says otherwise.
* With a hook on a file the engine writes through calls, never through the mapping, so nothing goes
  unseen.  The control page is an exception: it is a scratch page, and no step is recorded for it.
"""

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kvengine.engine.log.names import CONTROL_NAME, RESERVE_NAME
from kvengine.errors import StorageError, StorageFull
from kvengine.file.directory import Directory, OutputFile, Rename
from kvengine.file.folder import Folder
from kvengine.file.local import LOCK_NAME
from kvengine.file.mapped import MappedFile

UNRECORDED = (CONTROL_NAME, LOCK_NAME, RESERVE_NAME)


class Killed(BaseException):
    """The process is dead from here on: no error handler of the engine may repair anything."""


@dataclass(slots=True)
class Step:
    """One change of a folder."""

    number: int
    operation: str  # create, write, reserve, truncate, sync, rename, remove, sync-folder
    name: str
    inode: int = 0  # which file, whatever its name was later; 0 for the folder
    offset: int = 0  # for reserve and truncate the new size
    data: bytes = b""
    target: str = ""  # of a rename
    failed: bool = False


@dataclass(slots=True)
class Recording:
    """What a folder held at first, and every step since."""

    files: dict[str, bytes]
    inodes: dict[str, int]
    steps: list[Step] = field(default_factory=list)


class FaultyDirectory:
    """Wraps another folder; see Directory.

    `before` is called with each step before it is carried out, without any lock: it may block,
    and it may raise OSError.

    Thread-safety: threads may share it; steps are numbered under a lock.
    """

    def __init__(self, inner: Directory) -> None:
        self.inner, self.path = inner, inner.path
        self.before: Callable[[Step], None] | None = None
        self.partial_bytes: int | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._faults: dict[int, int] = {}
        self._fault_forever: tuple[int, int] | None = None
        self._kill_at: int | None = None
        self.is_dead = False
        names = [name for name in inner.names() if name not in UNRECORDED]
        self._inode_numbers = itertools.count(1)
        self._inodes = {name: next(self._inode_numbers) for name in names}
        self.recording = Recording({name: inner.read(name) for name in names}, dict(self._inodes))

    # -- what to do at which step

    def fail(self, number: int, code: int, *, forever: bool = False) -> None:
        """Let the step with this number fail; with `forever` all after it too."""
        if forever:
            self._fault_forever = (number, code)
        else:
            self._faults[number] = code

    def heal(self) -> None:
        """Let no further step fail."""
        self._faults.clear()
        self._fault_forever = None

    def kill(self, number: int) -> None:
        """Let the process die at this step: it and all later ones raise Killed."""
        self._kill_at = number

    @property
    def steps(self) -> list[Step]:
        """All steps so far."""
        return self.recording.steps

    def count(self, operation: str, suffix: str = "") -> int:
        """Return how many steps of a kind succeeded, on files with names that end so."""
        return sum(
            step.operation == operation and step.name.endswith(suffix) and not step.failed
            for step in list(self.steps)
        )

    def _step(
        self,
        operation: str,
        name: str,
        *,
        inode: int = 0,
        offset: int = 0,
        data: bytes = b"",
        target: str = "",
    ) -> Step:
        """Record one step, or fail it."""
        with self._lock:
            if self.is_dead:
                raise Killed
            step = Step(next(self._numbers), operation, name, inode, offset, data, target)
            if self._kill_at is not None and step.number >= self._kill_at:
                self.is_dead = True
                raise Killed
            code = self._faults.get(step.number, 0)
            if self._fault_forever is not None and step.number >= self._fault_forever[0]:
                code = self._fault_forever[1]
            step.failed = code != 0
            self.steps.append(step)
        if self.before is not None:
            try:
                self.before(step)
            except OSError as error:
                code, step.failed = error.errno or errno.EIO, True
        if code:
            full = code in (errno.ENOSPC, errno.EDQUOT)
            kind = StorageFull if full else StorageError
            raise kind(code, f"cannot {operation}: {os.strerror(code)}", name)
        return step

    # -- files that exist, or are made by opening them

    def _hook(self, name: str, inode: int) -> Callable[[str, str, int, bytes | None], int | None]:
        def hook(operation: str, _path: str, offset: int, data: bytes | None) -> int | None:
            try:
                self._step(operation, name, inode=inode, offset=offset, data=data or b"")
            except StorageError as error:
                if operation != "write" or not self.partial_bytes or error.errno != errno.ENOSPC:
                    raise
                part = min(self.partial_bytes, len(data or b""))
                self.steps.append(
                    Step(self.steps[-1].number, "write", name, inode, offset, (data or b"")[:part])
                )
                return part
            return None

        return hook

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
        recorded = name not in UNRECORDED
        made = None
        if recorded and (new or (create and name not in self._inodes)):
            made = self._new(name)
        file = self.inner.open(name, create=create, new=new, writable=writable, map_bytes=map_bytes)
        if recorded:  # one that is only read can be synced as well
            # Another thread may have removed one that was just made.
            file.hook = self._hook(name, self._inodes[name] if made is None else made)
        return file

    def create(self, name: str) -> "FaultyOutput":
        """Make a new file."""
        inode = self._new(name)
        return FaultyOutput(self, name, inode, self.inner.create(name))

    def _new(self, name: str) -> int:
        if name in self._inodes:
            raise StorageError(errno.EEXIST, f"cannot create: {os.strerror(errno.EEXIST)}", name)
        inode = next(self._inode_numbers)
        self._step("create", name, inode=inode)
        self._inodes[name] = inode
        return inode

    def replace(
        self,
        name: str,
        data: bytes,
        *,
        durable: bool = True,
        temporary: str | None = None,
        rename: Rename | None = None,
    ) -> None:
        """Put a file with these bytes in the place of the old one: five steps."""
        temporary = temporary or name + ".tmp"
        inode = next(self._inode_numbers)
        self._step("create", temporary, inode=inode)
        try:
            self._step("write", temporary, inode=inode, data=data)
            if durable:
                self._step("sync", temporary, inode=inode)
        except StorageError:
            with contextlib.suppress(StorageError):
                self._step("remove", temporary, inode=inode)
            raise

        def act() -> None:
            self._step("rename", temporary, inode=inode, target=name)
            self.inner.replace(name, data, durable=False)
            self._inodes[name] = inode

        if rename is None:
            act()
        else:
            rename(act, None, temporary)
        if durable:
            self.sync()

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], *, durable: bool = True
    ) -> None:
        """Replace a file by what `change` makes of it."""
        changed = change(self.inner.read(name) if name in self.inner.names() else None)
        if changed is not None:
            self.replace(name, changed, durable=durable)

    def remove(self, name: str) -> None:
        """Remove a file; a missing file is not an error."""
        if name in self._inodes:
            self._step("remove", name, inode=self._inodes[name])
            self._inodes.pop(name, None)  # a job, or a handler, may have removed it meanwhile
        self.inner.remove(name)

    def sync(self) -> None:
        """Wait until all present names are on disk."""
        self._step("sync-folder", "")
        self.inner.sync()

    def link(self, name: str, target: Directory) -> None:
        """Write the file into the other folder, step by step."""
        output = target.create(name)
        try:
            output.write(self.inner.read(name))
            output.sync()
        finally:
            output.close()

    # -- whose folder it is

    @property
    def folder(self) -> Folder | None:
        """The open folder underneath."""
        return self.inner.folder

    def watch(self, name: str, *, beside: str | None = None) -> None:
        """Let a file show from now on whose folder this is."""
        self.inner.watch(name, beside=beside)

    def check_present(self) -> None:
        """Raise if the folder is gone, or holds another store."""
        self.inner.check_present()

    def check_path(self) -> None:
        """Raise if another folder is at the path now."""
        self.inner.check_path()

    # -- the rest changes nothing that a crash could undo

    def names(self) -> list[str]:
        """Return the names of all files."""
        return self.inner.names()

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return self.inner.size(name)

    def allocated(self, name: str) -> int:
        """Return the bytes of the blocks that a file occupies; 0 if it is gone."""
        return self.inner.allocated(name)

    def read(self, name: str) -> bytes:
        """Return a whole, small file."""
        return self.inner.read(name)

    def opening(self) -> contextlib.AbstractContextManager[None]:
        """Keep others from opening or closing the store meanwhile."""
        return self.inner.opening()

    def lock(self, *, shared: bool = False) -> None:
        """Open for writing, alone or with others."""
        self.inner.lock(shared=shared)

    def try_lock(self, *, shared: bool = False) -> bool:
        """The same; False if a writer that does not share has it open."""
        return self.inner.try_lock(shared=shared)

    def share_lock(self) -> None:
        """Let others write, too."""
        self.inner.share_lock()

    def is_last(self) -> bool:
        """True if nobody else writes."""
        return self.inner.is_last()

    def unlock(self, last: bool = True) -> None:
        """Let others write."""
        self.inner.unlock(last)

    def lock_is_held(self) -> bool:
        """True if some process is the writer."""
        return self.inner.lock_is_held()

    def stamp(self, name: str) -> object:
        """Return a value that changes when the file is replaced; None: it does not exist."""
        return self.inner.stamp(name)

    def pid_of_holder(self) -> int | None:
        """Return the process that opened the store for writing last."""
        return self.inner.pid_of_holder()

    def was_left_open(self) -> bool:
        """True if the last writer did not close the store."""
        return self.inner.was_left_open()

    def reader(self) -> Directory:
        """Return the folder underneath: reads are not recorded and do not fail."""
        return self.inner.reader()

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent process."""
        self.inner.after_fork_in_child()

    def close(self) -> None:
        """Keep the files: the test wants to open them again."""
        self.inner.unlock()


class FaultyOutput:
    """A new file of a FaultyDirectory."""

    def __init__(
        self, directory: FaultyDirectory, name: str, inode: int, inner: OutputFile
    ) -> None:
        self._directory, self._name, self._inode, self._inner = directory, name, inode, inner
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        piece = bytes(data)
        self._directory._step("write", self._name, inode=self._inode, offset=self.size, data=piece)
        self._inner.write(piece)
        self.size += len(piece)

    def sync(self) -> None:
        """Wait until everything written is on disk."""
        self._directory._step("sync", self._name, inode=self._inode)
        self._inner.sync()

    def close(self) -> None:
        """Give the file back."""
        self._inner.close()


@contextlib.contextmanager
def faults(directory: FaultyDirectory, number: int, code: int) -> Iterator[None]:
    """Within the block each step from `number` on fails."""
    directory.fail(number, code, forever=True)
    try:
        yield
    finally:
        directory.heal()
