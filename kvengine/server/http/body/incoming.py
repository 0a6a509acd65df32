"""What is on its way in: small things in memory, large ones in a file that has no name.

Invariants:

* Memory holds at most IN_MEMORY_BYTES of what comes, however large it is and however many come.
* While it is written the store has a copy of it; Backend.large_write() lets one large thing in at a
  time.
* Of a value that is longer than allowed only the length is known.
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
    """Let the C library give blocks of memory of 1 MiB and more back as soon as they are free.

    Otherwise glibc learns from the first large value to keep as much, for each thread.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries do not have it
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, IN_MEMORY_BYTES)


@contextmanager
def temporary() -> Iterator[None]:
    """Say it plainly if a temporary file can't be had.

    Raises:
        StorageFull: it can't.
    """
    try:
        yield
    except OSError as error:
        said = f"can't store a large body in a temporary file: {error.strerror}"
        raise StorageFull(said) from error


class Taking:
    """How much of memory and disk a body takes up: from the start if its length is known.

    Args:
        take: is told MEMORY or DISK and a number of bytes.
        most: bytes that are kept.
        expected: how many the body has; None: that is not known.
    """

    def __init__(self, take: Take, most: int, expected: int | None) -> None:
        self._take, self._is_done, self._size = take, expected is not None, 0
        if expected is not None:
            kept = min(expected, most)
            take(MEMORY, min(kept, IN_MEMORY_BYTES))
            if kept > IN_MEMORY_BYTES:
                take(DISK, kept)

    def add(self, count: int) -> None:
        """Note that so many bytes came."""
        if not self._is_done:
            self._size += count
            self._take(MEMORY if self._size <= IN_MEMORY_BYTES else DISK, count)


class Incoming:
    """The pieces of a value, in the order in which they come.

    Args:
        most: bytes that are kept.
        take: is told MEMORY or DISK and how many bytes of it are taken up, and may refuse it.
        expected: bytes, if that is known: they are taken up before the first one comes.

    Raises:
        Refused: bodies take up too much already.
    """

    def __init__(
        self, most: int, take: Take = lambda _what, _count: None, expected: int | None = None
    ) -> None:
        self._file: IO[bytes] | None = None
        self._most, self._start, self.size = most, bytearray(), 0
        self.taking = Taking(take, most, expected)

    def add(self, data: bytes) -> None:
        """Take a piece.

        Raises:
            StorageFull: there is no room for it.
            Refused: bodies take up too much already.
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
        """Return the value, whole; it lasts as long as somebody holds it.

        Raises:
            StorageFull: there is no room for it.
        """
        if self._file is None:
            return memoryview(self._start)
        with temporary():
            self._file.flush()
            return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Drop the file; what view() gave stays."""
        if self._file is not None:
            with suppress(OSError):  # what it still held did not fit
                self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.close()  # a client may leave at any moment
