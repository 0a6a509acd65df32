"""Listening sockets: create one, inherit one from the parent process, pass one on.

Invariants:

* An inherited socket stays open while processes change, so a client that connects meanwhile waits
  and is not refused.
* The only files removed are sockets: at the start a stale one, at the end the one created here.
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
FD_VARIABLE = "KVENGINE_LISTEN_FD"  # of the socket for the program that replaces this one
MADE_VARIABLE = "KVENGINE_LISTEN_FILE"  # device and inode of its file, if created here
PROBE_S = 1.0
SYSTEMD_FD = 3  # sd_listen_fds(3)
Identity = tuple[int, int]  # device, inode


class Listener:
    """A listening socket and its file.

    Args:
        settings: of the server.

    Raises:
        StorageError: the address is not available.
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
        """Pass the socket to the program that replaces this one."""
        self.socket.set_inheritable(True)
        os.environ[FD_VARIABLE] = str(self.socket.fileno())
        if self._made is not None:
            os.environ[MADE_VARIABLE] = "{}:{}".format(*self._made)

    def close(self) -> None:
        """Close the socket, and remove its file if this object created it."""
        self.socket.close()
        if self._path is not None and self._made is not None and identity(self._path) == self._made:
            with suppress(OSError):
                os.unlink(self._path)


def listening_socket(settings: ServerSettings) -> socket.socket:
    """Return a new listening socket.

    Raises:
        StorageError: the address is not available.
    """
    path = settings.unix_socket
    try:
        if path is not None:
            return unix_socket(path)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        # With an explicit protocol, asyncio sets TCP_NODELAY.
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(BACKLOG)
    except OSError as error:
        where = path or f"{settings.host} port {settings.port}"
        raise StorageError(error.errno, f"can't listen on {where}: {error.strerror}") from error
    return found


def handed_over() -> socket.socket | None:
    """Return the socket of systemd, or of the program that this one replaced."""
    own = os.environ.pop(FD_VARIABLE, None)
    if own is not None:
        found = socket.socket(fileno=int(own))
        found.set_inheritable(False)
        return found
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=SYSTEMD_FD)
    return None


def identity(path: str) -> Identity | None:
    """Return the identity of a socket file; None: missing, or not a socket."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def unix_socket(path: str) -> socket.socket:
    """Return a listening Unix socket; replace one that a dead server left behind.

    Raises:
        OSError: another process listens there, or the path is not available or not a socket.
    """
    left = identity(path)
    if left is None and os.path.lexists(path):
        raise OSError(errno.EEXIST, "the path exists and is not a socket; remove it or use another")
    if left is not None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_S)
            try:
                probe.connect(path)
            except ConnectionRefusedError:  # stale
                if identity(path) == left:
                    os.unlink(path)
            except FileNotFoundError:
                pass
            except (TimeoutError, BlockingIOError):  # its queue is full
                raise OSError(errno.EADDRINUSE, "another process is listening there") from None
            else:
                raise OSError(errno.EADDRINUSE, "another process is listening there")
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # mode 0600 from the start: only the owner may connect
    try:
        found.bind(path)
    finally:
        os.umask(mask)
    found.listen(BACKLOG)
    return found
