"""No engine: ``pwrite`` and ``fdatasync`` on a preallocated file.

It is the floor under every durable put on this machine, because nothing that is on the disk when it
returns can do less.

Invariants: the file has its full size before the first write, so that a sync has no file length to
record; one put is one record of key and value and one ``fdatasync``.
"""

import os
from itertools import count
from pathlib import Path

from benchmarks.engines.base import SYNC, THREADS, Durability, Engine

_FILE_BYTES = 64 << 20


class BareFile(Engine):
    """Appends records to a file and syncs each."""

    name = "bare file"
    settings = ("default",)
    abilities = frozenset({SYNC, THREADS})

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        self._file = os.open(path / "log", os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(self._file, 0, _FILE_BYTES)
        os.fsync(self._file)
        file, numbers = self._file, count()

        def put(key: bytes, value: bytes) -> None:
            record = key + value
            os.pwrite(file, record, next(numbers) * len(record) % (_FILE_BYTES - len(record)))
            os.fdatasync(file)

        self.put = put

    @classmethod
    def version(cls) -> str:
        """The version of the kernel."""
        return os.uname().release

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
