"""Reserved disk space, so that a store on a full disk can be made smaller.

Deletes are records, and compaction writes before it removes: without a reserve, a full disk would
refuse the very operations that free space.

Invariants:

* The reserve is a file of empty blocks.  Removing it loses nothing else.
* One half is released for deletes, the other for compaction.  Until both are complete again, a put
  that needs more disk space is refused, in every process, however much space seems to be free.
* Small stores have no reserve.
"""

from __future__ import annotations

import contextlib
import logging

from kvengine.engine.log.names import RESERVE_NAME
from kvengine.errors import StorageError, StorageFull
from kvengine.file.directory import Directory

logger = logging.getLogger("kvengine")
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

    All processes share it, so each asks the disk how large it is.  That the disk is full
    (`is_disk_low`) is said on the control page.

    Thread-safety: threads may share it; the worst that two at once do is to make it twice.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.is_real = directory.folder is not None  # in memory there is no disk to be full
        self._is_refused = False  # for another reason than that the disk is full

    def _bytes(self) -> int:
        return self._directory.allocated(RESERVE_NAME)

    def is_due(self, log_bytes: int) -> bool:
        """True if there should be more than there is."""
        if not self.is_real or self._is_refused:
            return False
        return self._bytes() * 4 < wanted_bytes(log_bytes) * 3

    def keep(self, log_bytes: int, is_disk_low: bool) -> bool:
        """Keep back what a log of this size should have; False if there is no room for it.

        Args:
            is_disk_low: a part of it was given up.
        """
        if not self.is_real or self._is_refused:
            return True
        wanted, found = wanted_bytes(log_bytes), self._bytes()
        if found > 2 * wanted:  # the log has become smaller
            self.give()
            is_disk_low, found = False, 0
        if not wanted or not (is_disk_low or self.is_due(log_bytes)):
            return True
        wanted = max(wanted, found)
        is_whole = self._allocate(wanted)
        if not is_whole and (folder := self._directory.folder) is not None:
            # Of little space one half is for compaction, too: the rest may go to deletes.
            self._allocate(max(found, folder.disk_bytes()[1] // 2))
        return is_whole

    def _allocate(self, size: int) -> bool:
        try:
            file = self._directory.open(
                RESERVE_NAME, create=True, writable=True, map_bytes=BYTES_MAX
            )
            file.allocate(size)
        except StorageFull:
            return False
        except StorageError as error:  # one can do without it
            logger.warning("can't reserve disk space: %s", error)
            self._is_refused = True
        return True

    def give_half(self) -> bool:
        """Give up what is for deletes; False if there is nothing."""
        found = self._bytes()
        if not found:
            return False
        with contextlib.suppress(StorageError, FileNotFoundError):
            file = self._directory.open(RESERVE_NAME, writable=True, map_bytes=BYTES_MAX)
            file.shorten(found // 2)
        return True

    def give(self) -> None:
        """Give up everything."""
        if self.is_real:
            with contextlib.suppress(StorageError):
                self._directory.remove(RESERVE_NAME)
