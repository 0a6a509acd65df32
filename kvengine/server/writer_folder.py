"""The folder for the writer's socket, and those that killed servers left behind.

Invariants:

* Only a folder that a supervisor has made, of this user, holding nothing but a socket on which
  nobody listens, is removed: a supervisor keeps its folder locked, and the system takes the lock
  back however the process ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kvengine.server.listening import identity

PREFIX = "kvengine-"
SOCKET_NAME = "writer"
PROBE_S = 1.0


@contextmanager
def writer_folder() -> Iterator[str]:
    """Give a new folder, which is removed at the end; remove what was left behind before."""
    remove_left_behind()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)


def remove_left_behind() -> None:
    """Remove the folders of supervisors that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is in use, of somebody else, or gone meanwhile
            _remove(folder)


def _remove(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(held).st_uid != os.geteuid() or os.listdir(held) != [SOCKET_NAME]:
            return
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = folder / SOCKET_NAME
        if identity(str(path)) is not None and not _is_listening(str(path)):
            os.unlink(SOCKET_NAME, dir_fd=held)
            os.rmdir(folder)
    finally:
        os.close(held)


def _is_listening(path: str) -> bool:
    """True if somebody listens on a socket: a writer that still finishes what is under way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        return True
