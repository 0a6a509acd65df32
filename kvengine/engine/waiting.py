"""Waiting until a store has changed.

Invariants:

* Who waits sleeps, and the writer wakes it, in its own process and in others; a writer for whom
  nobody waits does nothing but look at two numbers.
* Who is interrupted while it waits or wakes leaves no lock behind.
* Where the system has no futex, or the reader may not write to the control page, a waiter in
  another process looks at the page now and then.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvengine.engine.bell import HAS_FUTEX, LONGEST_REST_S, Bell
from kvengine.engine.changes import Changes
from kvengine.engine.control import PAGE_BYTES, Control
from kvengine.engine.holding import OwnedLock
from kvengine.engine.names import CONTROL_NAME
from kvengine.errors import InvalidRequest, StorageError
from kvengine.options import VERSION_LIMIT

if TYPE_CHECKING:
    from kvengine.engine.store import Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0002, 0.005  # between two looks at the control page


class Waiting:
    """Those who wait for a store to change.

    Thread-safety: any number of threads may wait and wake.
    """

    def __init__(self) -> None:
        self.renew()
        self._bell: Bell | None = None
        self._looked_for_bell = False

    def renew(self) -> None:
        """Begin anew: in a child process nobody waits."""
        self._lock = OwnedLock()  # of the listeners, and their count at the store
        self._listeners: list[Callable[[], None]] = []

    def wait(self, store: Store, after: int, timeout: float | None) -> int:
        """Return the version of a store when it is above `after`, or at the latest after a time."""
        store.check_usable()
        if store.follower is not None:
            return self._wait_for_writer(store, after, timeout)
        if store.options.read_only and timeout is None:
            raise InvalidRequest("a snapshot can't change: give a timeout")
        changes = Changes()
        with self.listening(store, changes.notify):
            changes.wait_for(lambda: store.is_refused or store.applied_version > after, timeout)
        return store.version

    def wake(self) -> None:
        """Let those who wait look again."""
        for listener in list(self._listeners):
            listener()
        if self._bell is not None:
            self._bell.ring()

    @contextlib.contextmanager
    def listening(self, store: Store, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` after each change of a store, in the thread that made it."""
        try:
            with self._lock.held():
                self._listeners.append(listener)
                store.waiters = len(self._listeners)
            yield
        finally:
            with self._lock.held():
                with contextlib.suppress(ValueError):  # a child process has forgotten it
                    self._listeners.remove(listener)
                store.waiters = len(self._listeners)

    def _wait_for_writer(self, store: Store, after: int, timeout: float | None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_PAUSE_S
        while True:
            page = store.control_page  # None: no writer was there yet
            bell = None if page is None else self._bell_of(store, page)
            shown = 0 if page is None else page.version  # before the store looks: later ones ring
            version = store.version
            rest = LONGEST_REST_S if deadline is None else deadline - time.monotonic()
            if version > after or rest <= 0:
                return version
            if bell is not None:
                bell.sleep(shown, rest)
            else:
                time.sleep(min(rest, pause))
                pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def _bell_of(self, store: Store, page: Control) -> Bell | None:
        """Return the bell of the writer that a store follows; None: it must be watched."""
        if not self._looked_for_bell and HAS_FUTEX:
            with contextlib.suppress(StorageError, FileNotFoundError):
                file = store.directory.open(CONTROL_NAME, writable=True, map_bytes=PAGE_BYTES)
                file.close_descriptor()  # the mapping is enough
                self._bell = Bell(file, page)
        self._looked_for_bell = True
        return self._bell


def check_timeout(timeout: object) -> None:
    """Refuse what is no number of seconds."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidRequest(f"timeout must be seconds from 0 on or None, not {timeout!r}")


def check_version(name: str, value: object) -> None:
    """Refuse what is no version."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < VERSION_LIMIT:
        raise InvalidRequest(f"{name} must be a version, an int from 0 on, not {value!r}")
