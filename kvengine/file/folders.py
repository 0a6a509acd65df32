"""Folders at a path: opening one, making one, and whether others may use it.

Invariants:

* A folder that is made here is for its owner alone, whatever the umask, and is durable with those
  above it; the mode of one that was there is kept.
* What locks a file for a moment unlocks it, rather than only closing it: a child that was forked
  meanwhile has a copy of the descriptor, and would hold the lock on.
"""

import contextlib
import fcntl
import logging
import os
import stat

from kvengine.errors import NotAStore, pass_on
from kvengine.file.folder import Descriptor, Folder
from kvengine.file.output import FILE_MODE, refusals, sync_folder

FOLDER_MODE = 0o700
LOCKS = "/proc/locks"
OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH

logger = logging.getLogger("kvengine")
_warned_of: set[tuple[int, int]] = set()  # folders, by device and inode


def open_folder(path: str) -> Folder:
    """Return the folder at a path, open.

    Raises:
        NotAStore: it does not exist.
    """
    try:
        return Folder(path)
    except FileNotFoundError:
        raise NotAStore(f"{path} does not exist") from None
    except NotADirectoryError:
        if os.path.lexists(path):
            raise NotAStore(f"{path} is not a folder, so it is not a kvengine store") from None
        raise


def make_folder(path: str) -> None:
    """Make a folder and those above it, each of which is durable then."""
    missing = [path]
    while not os.path.lexists(parent := os.path.dirname(missing[-1])):
        missing.append(parent)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.mkdir(folder, FOLDER_MODE)
        sync_folder(os.path.dirname(folder))


def warn_if_loose(folder: Folder) -> None:
    """Warn once if other users may use an existing folder."""
    found = os.fstat(folder.fd)
    place = (found.st_dev, found.st_ino)
    if found.st_mode & OTHERS and place not in _warned_of:
        _warned_of.add(place)
        logger.warning(
            "the folder %s has the mode %o: other users can list it, and block opening it "
            "for writing; to prevent that, run chmod 700 on it",
            folder.path,
            stat.S_IMODE(found.st_mode),
        )


def open_to_lock(name: str, folder: Folder) -> Descriptor:
    """Open a file to lock it for moments; made if it is missing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    return Descriptor(name, flags, FILE_MODE, folder.fd, locks=True)


def unlock(file: Descriptor) -> None:
    """Give back the lock of a file, which may have been closed meanwhile."""
    with contextlib.suppress(ValueError):
        fcntl.flock(file, fcntl.LOCK_UN)


def try_flock(file: Descriptor, path: str) -> bool:
    """Lock a file for this process alone; False if another one has it."""
    with refusals("lock", path):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pass_on(error)
            return False
    return True


def still_locking(folder: Folder, name: str, noted: int) -> int:
    """Return `noted` if that process has a file locked, else another one that has.

    Where the system does not list locks, or not this one, it is `noted`.
    """
    try:
        found = os.stat(name, dir_fd=folder.fd)
        with open(LOCKS, encoding="ascii") as file:
            rows = [row.split() for row in file]
    except (OSError, UnicodeDecodeError) as error:
        pass_on(error)
        return noted
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    # "1: FLOCK ADVISORY WRITE 4711 fe:00:4638970 0 EOF"; one that waits has "->" before FLOCK.
    pids = {int(row[4]) for row in rows if row[1:2] == ["FLOCK"] and row[5:6] == [place]}
    return noted if noted in pids or not pids else max(pids)
