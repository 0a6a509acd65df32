"""Sockets that listen: made, taken over from whoever started the process, handed on.

Invariants:

* A socket that was handed over stays open while processes change, so a client that connects
  meanwhile waits, and is not refused.
"""

from __future__ import annotations

import errno
import os
import socket

from kvengine.errors import StorageError
from kvengine.server.settings import ServerSettings

BACKLOG = 2048
FD_VARIABLE = "KVENGINE_LISTEN_FD"  # of the socket that this process left to its successor
SYSTEMD_FD = 3  # sd_listen_fds(3)


def listening_socket(settings: ServerSettings) -> socket.socket:
    """Return a socket that listens: one that was handed over, or a new one.

    Raises:
        StorageError: the address can't be had; the text says which.
    """
    handed = handed_over()
    if handed is not None:
        return handed
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


def hand_on(listener: socket.socket) -> None:
    """Leave a socket to the program that replaces this one."""
    listener.set_inheritable(True)
    os.environ[FD_VARIABLE] = str(listener.fileno())


def unix_socket(path: str) -> socket.socket:
    """Return a Unix socket that listens; one that a dead server left behind is replaced.

    Raises:
        OSError: somebody listens there, or the path can't be had.
    """
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)  # nobody listens any more
    except FileNotFoundError:
        pass
    else:
        raise OSError(errno.EADDRINUSE, "another process listens there")
    finally:
        probe.close()
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # who may read the data folder may connect, from the first moment
    try:
        found.bind(path)
    finally:
        os.umask(mask)
    found.listen(BACKLOG)
    return found
