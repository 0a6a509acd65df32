"""Sockets that listen: made, taken over from whoever started the process, handed on.

Invariants:

* A socket that was handed over stays open while processes change, so a client that connects
  meanwhile waits, and is not refused.
* In the file system nothing is removed but a socket: before, one that nobody listens on; at the
  end, the one that was made here.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from kvengine.errors import StorageError
from kvengine.server.settings import ServerSettings

BACKLOG = 2048
FD_VARIABLE = "KVENGINE_LISTEN_FD"  # of the socket that this process left to its successor
MADE_VARIABLE = "KVENGINE_LISTEN_FILE"  # device and inode of its file, if it was made here
PROBE_S = 1.0
SYSTEMD_FD = 3  # sd_listen_fds(3)
Identity = tuple[int, int]  # device, inode


class Listener:
    """A socket that listens, and the file that was made for it.

    Args:
        settings: of the server.

    Raises:
        StorageError: the address can't be had; the text says which.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._path, self._made = settings.unix_socket, None
        handed = handed_over()
        if handed is not None:
            self.socket = handed
            made = os.environ.pop(MADE_VARIABLE, "")
            if made:
                device, inode = made.split(":")
                self._made = int(device), int(inode)
        else:
            self.socket = listening_socket(settings)
            if self._path is not None:
                self._made = identity(self._path)

    def hand_on(self) -> None:
        """Leave the socket to the program that replaces this one."""
        self.socket.set_inheritable(True)
        os.environ[FD_VARIABLE] = str(self.socket.fileno())
        if self._made is not None:
            os.environ[MADE_VARIABLE] = "{}:{}".format(*self._made)

    def close(self) -> None:
        """Close the socket, and remove its file if it is still the one that was made here."""
        self.socket.close()
        if self._path is not None and self._made is not None and identity(self._path) == self._made:
            with suppress(OSError):
                os.unlink(self._path)


def listening_socket(settings: ServerSettings) -> socket.socket:
    """Return a new socket that listens.

    Raises:
        StorageError: the address can't be had; the text says which.
    """
    path = settings.unix_socket
    try:
        if path is not None:
            return unix_socket(path)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        # With the protocol said, asyncio sends small answers at once (TCP_NODELAY).
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(BACKLOG)
    except OSError as error:
        where = path or f"{settings.host} port {settings.port}"
        raise StorageError(error.errno, f"can't listen on {where}: {error.strerror}") from error
    return found


def handed_over() -> socket.socket | None:
    """Return the socket that systemd, or the process that this one replaces, opened."""
    own = os.environ.pop(FD_VARIABLE, None)
    if own is not None:
        found = socket.socket(fileno=int(own))
        found.set_inheritable(False)
        return found
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=SYSTEMD_FD)
    return None


def identity(path: str) -> Identity | None:
    """Return what a file is known by, if it is a socket; None: it is none, or there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def unix_socket(path: str) -> socket.socket:
    """Return a Unix socket that listens; one that a dead server left behind is replaced.

    Raises:
        OSError: somebody listens there, the path is of something else, or it can't be had.
    """
    left = identity(path)
    if left is None and os.path.lexists(path):
        raise OSError(errno.EEXIST, "the path exists and is not a socket; remove it or use another")
    if left is not None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_S)
            try:
                probe.connect(path)
            except ConnectionRefusedError:  # nobody listens any more
                if identity(path) == left:
                    os.unlink(path)
            except FileNotFoundError:
                pass
            except (TimeoutError, BlockingIOError):  # its queue is full
                raise OSError(errno.EADDRINUSE, "another process is listening there") from None
            else:
                raise OSError(errno.EADDRINUSE, "another process is listening there")
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # who may read the data folder may connect, from the first moment
    try:
        found.bind(path)
    finally:
        os.umask(mask)
    found.listen(BACKLOG)
    return found
