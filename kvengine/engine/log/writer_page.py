"""The control page as a reader sees it, and when the reader may trust it.

Invariants:

* A page is trusted if a writer on this boot has written it: the boot is the same; or it has changed
  since this process mapped it; or a writer holds the lock and has stored its pid.  So it does not
  matter whether a process can see the id of the boot (systemd's ProcSubset=pid, a chroot).
* A reader that does not trust it reads the log to its end, and checks again.
"""

from __future__ import annotations

from kvengine.engine.log.control import PAGE_BYTES, Control
from kvengine.engine.log.names import CONTROL_NAME
from kvengine.errors import StorageError
from kvengine.file.directory import Directory
from kvengine.file.system import boot_id


def open_control(directory: Directory, *, writable: bool, alone: bool = False) -> Control | None:
    """Map the control page; None if it is missing or truncated.

    Args:
        alone: no other process has the store open, so the page is made, or made whole.
    """
    if not writable:
        directory.watch(CONTROL_NAME)  # no writer replaces it
    try:
        file = directory.open(CONTROL_NAME, create=alone, writable=writable, map_bytes=PAGE_BYTES)
    except FileNotFoundError:
        return None
    except StorageError:
        if writable:
            raise
        return None
    if file.size_bytes < PAGE_BYTES:
        if not alone:
            return None
        file.allocate(PAGE_BYTES)
    file.close_descriptor()  # the mapping is enough, also for a store that is closed and kept
    return Control(file)


def page_is_whole(directory: Directory) -> bool:
    """True if there is a control page, of its full size, whatever is in it."""
    try:
        return directory.size(CONTROL_NAME) >= PAGE_BYTES
    except FileNotFoundError:
        return False


class WriterPage:
    """The control page of the writer that a reader follows.

    Thread-safety: threads may share it.
    """

    def __init__(self, control: Control, directory: Directory) -> None:
        self.control, self._directory = control, directory
        self._at_first = control.snapshot()
        self._believed = False

    def believe(self) -> None:
        """Trust the page: the holder of the lock has initialized it."""
        self._believed = True

    def is_trusted(self, *, ask: bool = True) -> bool:
        """True if the page says how far the log may be read; `ask` who holds the lock, if need be.

        Asking takes the lock for a moment, so it is not done with each read.
        """
        control = self.control
        if self._believed or not control.is_valid:
            return self._believed
        self._believed = (
            control.boot == boot_id()
            or control.snapshot() != self._at_first
            or (ask and control.pid != 0 and self._directory.lock_is_held())
        )
        return self._believed


def is_foreign(directory: Directory) -> bool:
    """True if another version of kvengine has a store open for writing."""
    if not directory.lock_is_held():
        return False
    control = open_control(directory, writable=False)
    return control is not None and control.is_foreign


def open_page(directory: Directory) -> WriterPage | None:
    """Return the page of the writer of a folder; None if no writer has ever set one up."""
    control = open_control(directory, writable=False)
    return WriterPage(control, directory) if control is not None and control.is_valid else None
