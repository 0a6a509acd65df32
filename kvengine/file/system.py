"""Small facts about the system and the process that stores need.

Invariants:

* The boot id differs between boots; where the system does not tell it, it differs between
  processes, which is the safe side: nothing of another boot is trusted too far.
* A forked child hears of the fork before any other Python code runs in it.
"""

import os
import secrets
import weakref
from collections.abc import Callable
from typing import Any

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_own_boot_id: list[int] = []
_watched: dict[int, tuple[weakref.ref[Any], Callable[[Any], None]]] = {}


def boot_id() -> int:
    """Return a number of 64 bits that stays the same until the machine starts again."""
    if not _own_boot_id:
        try:
            with open(_BOOT_ID_FILE, encoding="ascii") as file:
                _own_boot_id.append(int(file.read().strip().replace("-", "")[:16], 16))
        except (OSError, ValueError):
            _own_boot_id.append(secrets.randbits(64))
    return _own_boot_id[0]


def process_id() -> int:
    """Return the id of this process."""
    return os.getpid()


def text_path(path: Any) -> str:
    """Return a path as text.

    Raises:
        TypeError: it is no str, bytes or os.PathLike.
    """
    return os.fsdecode(path)


def fork_watch(thing: Any, in_child: Callable[[Any], None]) -> None:
    """Call ``in_child(thing)`` in every child that is forked while `thing` lives."""
    key = id(thing)
    _watched[key] = (weakref.ref(thing, lambda _: _watched.pop(key, None)), in_child)


def _tell_child() -> None:
    for reference, in_child in list(_watched.values()):
        thing = reference()
        if thing is not None:
            in_child(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_child)
