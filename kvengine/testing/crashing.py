"""What a folder may look like after the machine stopped at some step of a recording.

Three models of a crash:

* "kill": the process died; every step before the crash is done.
* "ordered": power was lost; what was not synced is gone, bytes and names alike.
* "torn": power was lost in the middle of writing back; of everything not synced any part may be
  there: each sector of 512 bytes, each change of a size, each new, removed or changed name.

Invariants:

* Bytes that were synced, and names at the time of a sync of the folder, are always there.
* A sync that failed made nothing durable, and what it should have written is never written back
  by a later one: that is how Linux treats pages it could not write.
* The lock file and the control page are left out, so recovery has only what was made durable.
"""

import random
from dataclasses import dataclass, field

from kvengine.file.memory import MemoryDirectory
from kvengine.testing.faulty import Recording, Step

SECTOR_BYTES = 512
MODELS = ("kill", "ordered", "torn")


class KeptDirectory(MemoryDirectory):
    """A folder in memory that outlives the store that uses it, as one on disk does."""

    def close(self) -> None:
        """Keep everything; the files go when the last reference does."""

    def after_fork_in_child(self) -> None:
        """Keep everything."""

    def __del__(self) -> None:
        for name in self.names():
            self.remove(name)

    def content(self) -> dict[str, bytes]:
        """Return all files."""
        return {name: self.read(name) for name in self.names()}


@dataclass(slots=True)
class _File:
    """One file: what is surely on disk, and what may be."""

    durable: bytearray
    pending: list[Step] = field(default_factory=list)
    lost: list[Step] = field(default_factory=list)  # of a failed sync: may be there, or not

    def sync(self) -> None:
        for step in self.pending:
            _apply(self.durable, step)
        self.pending.clear()


def _apply(data: bytearray, step: Step) -> None:
    """Carry out one step on the bytes of a file."""
    if step.operation == "truncate":
        del data[step.offset :]
        data.extend(bytes(step.offset - len(data)))
    elif step.operation == "reserve":
        data.extend(bytes(max(step.offset - len(data), 0)))
    else:
        _put(data, step.offset, step.data)


def _put(data: bytearray, offset: int, piece: bytes) -> None:
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


class CrashedFolder:
    """The state of a folder after the first `count` steps of a recording, then a crash."""

    def __init__(self, recording: Recording, count: int) -> None:
        self._files = {
            inode: _File(bytearray(recording.files[name]))
            for name, inode in recording.inodes.items()
        }
        self._names = dict(recording.inodes)  # as on disk for sure
        self._pending_names: list[Step] = []
        for step in recording.steps[:count]:
            self._take(step)

    def _take(self, step: Step) -> None:
        operation = step.operation
        if step.failed:
            if operation == "sync":
                file = self._files[step.inode]
                file.lost.extend(file.pending)
                file.pending.clear()
            return
        if operation in {"create", "rename", "remove"}:
            self._pending_names.append(step)
            self._files.setdefault(step.inode, _File(bytearray()))
        elif operation == "sync-folder":
            for pending in self._pending_names:
                _rename(self._names, pending)
            self._pending_names.clear()
        elif operation == "sync":
            self._files[step.inode].sync()
        else:
            self._files[step.inode].pending.append(step)

    def files(self, model: str, seed: int = 0) -> dict[str, bytes]:
        """Return the files that are left, by a model; `seed` chooses for "torn"."""
        source = random.Random(seed)
        chance = source.choice([0.1, 0.5, 0.5, 0.9]) if model == "torn" else float(model == "kill")
        names = dict(self._names)
        for step in self._pending_names:
            if source.random() < chance:
                _rename(names, step)
        result = {}
        for name, inode in sorted(names.items()):
            file = self._files[inode]
            data = bytearray(file.durable)
            for step in sorted([*file.lost, *file.pending], key=lambda step: step.number):
                if model == "torn":
                    _apply_torn(data, step, source, chance)
                elif model == "kill":
                    _apply(data, step)
            result[name] = bytes(data)
        return result

    def folder(self, model: str, seed: int = 0) -> KeptDirectory:
        """Return the folder that is left, in memory."""
        return folder_of(self.files(model, seed))


def folder_of(files: dict[str, bytes]) -> KeptDirectory:
    """Return a folder in memory with these files."""
    folder = KeptDirectory()
    for name, data in files.items():
        folder.replace(name, data)
    return folder


def _rename(names: dict[str, int], step: Step) -> None:
    """Carry out one step on the names of a folder."""
    if step.operation == "create":
        names[step.name] = step.inode
        return
    if names.get(step.name) == step.inode:
        del names[step.name]
    if step.operation == "rename":
        names[step.target] = step.inode


def _apply_torn(data: bytearray, step: Step, source: random.Random, chance: float) -> None:
    """Carry out a part of a step that depends on chance."""
    if step.operation != "write":
        if source.random() < chance:
            _apply(data, step)
        return
    at = 0
    while at < len(step.data):
        offset = step.offset + at
        size = min(SECTOR_BYTES - offset % SECTOR_BYTES, len(step.data) - at)
        if source.random() < chance:
            _put(data, offset, step.data[at : at + size])
        at += size
