"""Receive a value: a small one in memory, a large one in an unnamed temporary file.

Invariants:

* Memory holds at most IN_MEMORY_BYTES of a value.
* The store copies a value while it writes it; Backend.large_write() permits one large value at a
  time.
* Only the length of a value that is too long is kept.
"""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from kvengine.errors import StorageFull
from kvengine.server.http.admission import DISK, MEMORY

IN_MEMORY_BYTES = 1 << 20
M_MMAP_THRESHOLD = -3  # of mallopt(3)
Take = Callable[[str, int], None]


def give_back_large_blocks() -> None:
    """Make the C library return free blocks of 1 MiB or more to the system at once.

    Otherwise glibc raises its threshold after the first large value, and keeps memory per thread.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only in glibc
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, IN_MEMORY_BYTES)


@contextmanager
def temporary() -> Iterator[None]:
    """Convert errors of a temporary file.

    Raises:
        StorageFull: the file can't be created or written.
    """
    try:
        yield
    except OSError as error:
        said = f"can't store a large body in a temporary file: {error.strerror}"
        raise StorageFull(said) from error


class Taking:
    """Reserves memory and disk for a body: at the start if its length is known.

    Args:
        take: reserves a number of bytes of MEMORY or DISK.
        most: maximum bytes to keep.
        expected: bytes of the body; None: not known.
    """

    def __init__(self, take: Take, most: int, expected: int | None) -> None:
        self._take, self._is_done, self._size = take, expected is not None, 0
        if expected is not None:
            kept = min(expected, most)
            take(MEMORY, min(kept, IN_MEMORY_BYTES))
            if kept > IN_MEMORY_BYTES:
                take(DISK, kept)

    def add(self, count: int) -> None:
        """Reserve room for received bytes."""
        if not self._is_done:
            self._size += count
            self._take(MEMORY if self._size <= IN_MEMORY_BYTES else DISK, count)


class Incoming:
    """A value that arrives in pieces.

    Args:
        most: maximum bytes to keep.
        take: reserves a number of bytes of MEMORY or DISK, or raises Refused.
        expected: bytes, if known: they are reserved at the start.

    Raises:
        Refused: bodies use too much already.
    """

    def __init__(
        self, most: int, take: Take = lambda _what, _count: None, expected: int | None = None
    ) -> None:
        self._file: IO[bytes] | None = None
        self._most, self._start, self.size = most, bytearray(), 0
        self.taking = Taking(take, most, expected)

    def add(self, data: bytes) -> None:
        """Add a piece.

        Raises:
            StorageFull: the disk is full.
            Refused: bodies use too much already.
        """
        self.size += len(data)
        if self.size > self._most:
            self._start = bytearray()
            self.close()
        elif self.size <= IN_MEMORY_BYTES:
            self.taking.add(len(data))
            self._start += data
        else:
            self.taking.add(len(data))
            with temporary():
                if self._file is None:
                    self._file = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
                    self._file.write(self._start)
                    self._start = bytearray()
                self._file.write(data)

    def view(self) -> memoryview:
        """Return the whole value; it stays valid after close().

        Raises:
            StorageFull: the disk is full.
        """
        if self._file is None:
            return memoryview(self._start)
        with temporary():
            self._file.flush()
            return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Close the file; views stay valid."""
        if self._file is not None:
            with suppress(OSError):  # its buffer did not fit on the disk
                self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.close()  # a client may disconnect at any time
