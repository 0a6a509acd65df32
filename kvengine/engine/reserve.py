"""Disk space kept back, so that a store on a full disk can be made smaller from inside.

Deletes are records, and compaction writes before it removes: without a reserve a full disk would
refuse what makes room.

Invariants:

* The reserve is a file of blocks that hold nothing.  Whoever removes it loses nothing else.
* One half is given up for deletes, the other for compaction.  Until all is there again, a put that
  needs more of the disk is refused, however much room there seems to be.
* Small stores have none.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kvengine.engine.job_thread import logger
from kvengine.engine.names import RESERVE_NAME
from kvengine.errors import StorageError, StorageFull

if TYPE_CHECKING:
    from kvengine.file.directory import Directory

LOG_BYTES_MIN = 1 << 20  # smaller logs have no reserve
SEGMENT_BYTES_MIN = 256 << 10  # on whatever disk, if the options do not say less
BYTES_MAX = 32 << 20  # a quarter of a segment of the usual size can be copied to one half of it


def wanted_bytes(log_bytes: int) -> int:
    """Return how large the reserve of a log should be."""
    if log_bytes < LOG_BYTES_MIN:
        return 0
    return min(max(log_bytes // 40, min(log_bytes // 8, 1 << 20)), BYTES_MAX)


def segment_bytes(directory: Directory, wanted: int) -> int:
    """Return how large segments may be, so that one can be compacted on a disk that is full."""
    if directory.folder is None:
        return wanted
    disk_bytes = directory.folder.disk_bytes()[0]
    if not disk_bytes:  # some file systems do not say
        return wanted
    return min(wanted, max(disk_bytes // 64, SEGMENT_BYTES_MIN))


class Reserve:
    """The reserve of one store.

    Thread-safety: threads may share it; the worst that two at once do is to make it twice.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.is_real = directory.folder is not None  # in memory there is no disk to be full
        self._bytes = 0  # that are kept back, as far as this process knows
        self._is_whole = True

    def begin(self) -> None:
        """Look at what the last process left."""
        if self.is_real:
            self._bytes = self._directory.allocated(RESERVE_NAME)

    def is_due(self, log_bytes: int) -> bool:
        """True if there should be more than there is."""
        if not self.is_real:
            return False
        return not self._is_whole or self._bytes * 4 < wanted_bytes(log_bytes) * 3

    def keep(self, log_bytes: int) -> bool:
        """Keep back what a log of this size should have; False if there is no room for it."""
        wanted = wanted_bytes(log_bytes)
        if self._bytes > 2 * wanted:  # the log has become smaller
            self.give()
            self._is_whole = True
        if not self.is_due(log_bytes):
            return True
        wanted = max(wanted, self._bytes)
        self._is_whole = self._allocate(wanted)
        if not self._is_whole and (folder := self._directory.folder) is not None:
            # Of little space one half is for compaction, too: the rest may go to deletes.
            self._allocate(max(self._bytes, folder.disk_bytes()[1] // 2))
        return self._is_whole

    def _allocate(self, size: int) -> bool:
        try:
            file = self._directory.open(
                RESERVE_NAME, create=True, writable=True, map_bytes=BYTES_MAX
            )
            file.allocate(size)
        except StorageFull:
            return False
        except StorageError as error:  # one can do without it
            logger.warning("no disk space is kept back: %s", error)
        self._bytes = size
        return True

    def give_half(self) -> bool:
        """Give up what is for deletes; False if that is done already."""
        if not self._bytes or not self._is_whole:
            return False
        self._bytes, self._is_whole = self._bytes // 2, False
        with contextlib.suppress(StorageError, FileNotFoundError):
            file = self._directory.open(RESERVE_NAME, writable=True, map_bytes=BYTES_MAX)
            file.shorten(self._bytes)
        return True

    def give(self) -> None:
        """Give up everything."""
        self._bytes, self._is_whole = 0, False
        if self.is_real:
            with contextlib.suppress(StorageError):
                self._directory.remove(RESERVE_NAME)
