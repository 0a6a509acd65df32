"""Small facts about the system and the process that stores need.

Invariants:

* The boot id differs between boots; where it is unknown, it differs between processes, so no
  process trusts the state of another boot.
* In a forked child the hooks of fork_watch() run before any other Python code.  After a fork by a
  program other than Python, such as uWSGI, they run at the first call that notices.
"""

import atexit
import functools
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from kvengine.errors import pass_on

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_FIRST_TIME_NAMESPACE = 0xEFFFFFFA  # another one may shift the times at which processes began
_own_boot_id: list[int] = []
_Watched = dict[int, tuple[weakref.ref[Any], Callable[[Any], None]]]
_at_fork: _Watched = {}
_at_exit: _Watched = {}
_running_hooks = threading.RLock()


def boot_id() -> int:
    """Return a number of 64 bits that stays the same until the machine starts again."""
    if not _own_boot_id:
        try:
            with open(_BOOT_ID_FILE, "rb") as file:  # text would import a codec at the first open
                _own_boot_id.append(int(file.read().strip().replace(b"-", b"")[:16], 16))
        except (OSError, ValueError) as error:
            pass_on(error)
            _own_boot_id.append(secrets.randbits(64))
    return _own_boot_id[0]


def process_id() -> int:
    """Return the id of this process."""
    return os.getpid()


def process_start(pid: int) -> int:
    """Return a number that tells a process from others that had, or will have, its id.

    It is when the process began, in ticks of this boot; 0: not known.
    """
    try:
        if os.stat("/proc/self/ns/time").st_ino != _FIRST_TIME_NAMESPACE:
            return 0
    except FileNotFoundError as error:  # the system has none
        pass_on(error)
    except OSError as error:
        pass_on(error)
        return 0
    found = _look_at_process(pid)
    return 0 if found is None else found[1]


def process_is_gone(pid: int, start: int = 0) -> bool:
    """True if a process has ended; False also if that is unknown.

    Args:
        pid: its id in this PID namespace.
        start: what process_start() returned for it; 0: not known, then any that has the id is it.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError as error:
        pass_on(error)
        return True
    except (OSError, OverflowError) as error:
        pass_on(error)
    found = _look_at_process(pid)
    if found is not None and found[0]:
        return True  # its parent did not ask yet what became of it
    return start != 0 and process_start(pid) not in {0, start}


def _look_at_process(pid: int) -> tuple[bool, int] | None:
    """Return whether a process has ended, and when it began; None if the system doesn't tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program may hold anything.
            fields = file.read().rpartition(b")")[2].decode("ascii").split()
        # One whose first thread has ended, and others have not, is in state Z as well.
        return fields[0] in {"Z", "X"} and fields[17] == "1", int(fields[19])
    except (OSError, ValueError, IndexError) as error:
        pass_on(error)
        return None


def pid_namespace() -> int:
    """Return a number that identifies the PID namespace (of a container); 0: unknown."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError as error:
        pass_on(error)
        return 0


def text_path(path: Any) -> str:
    """Return a path as text.

    Raises:
        TypeError: it is not a str, bytes or os.PathLike.
        UnicodeEncodeError: no file can have that name.
    """
    text = os.fsdecode(path)
    os.fsencode(text)
    return text


def fork_watch(thing: Any, in_child: Callable[[Any], None]) -> None:
    """Call ``in_child(thing)`` in every child that is forked while `thing` lives."""
    _watch(_at_fork, thing, in_child)


def run_fork_hooks(already_ran: Callable[[], bool]) -> None:
    """Run the hooks of fork_watch() once, in a child that was forked without Python."""
    with _running_hooks:
        if not already_ran():
            _run_hooks(_at_fork)


def exit_watch(thing: Any, at_exit: Callable[[Any], None]) -> None:
    """Call ``at_exit(thing)`` when the program ends while `thing` lives; the newest thing first."""
    _watch(_at_exit, thing, at_exit)


def is_finalizing() -> bool:
    """True if the interpreter is shutting down, so that modules can't be relied on."""
    return sys.is_finalizing()


def memory_is_low(bytes_in_use: int) -> bool:
    """True if so many bytes of files can't be expected to stay in memory."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return bytes_in_use > int(fields["MemAvailable"].split()[0]) * 512
    except (OSError, KeyError, ValueError) as error:
        pass_on(error)
        return False


def _watch(watched: _Watched, thing: Any, call: Callable[[Any], None]) -> None:
    key = id(thing)
    # pop(key, reference), without a function in Python, which could be interrupted.
    watched[key] = (weakref.ref(thing, functools.partial(watched.pop, key)), call)


def _run_hooks(watched: _Watched, *, last_first: bool = False) -> None:
    failure: BaseException | None = None
    calls = list(watched.values())
    for reference, call in reversed(calls) if last_first else calls:
        thing = reference()
        if thing is not None:
            try:
                call(thing)
            except BaseException as error:  # noqa: BLE001  # the other hooks must run all the same
                failure = error
    if failure is not None:
        raise failure


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _run_hooks(_at_fork))
atexit.register(lambda: _run_hooks(_at_exit, last_first=True))
