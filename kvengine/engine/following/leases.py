"""Leases of consumers: one process at a time gets the changes for a name.

Invariants:

* All consumers with the same name in one store object share its lease.  It ends when the last of
  them releases it or is dropped, when the store is closed, and with the process.
* Two store objects, in one process or in two, never have the lease of a name at the same time.
* No call here waits for a lease.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.parts import StoreParts
from kvengine.errors import ConsumerLocked
from kvengine.file.lease import Lease, holder, take
from kvengine.file.system import fork_watch

SUFFIX = ".lease"


class Leases:
    """The leases that one store object has.

    Thread-safety: threads may share it.
    """

    def __init__(self) -> None:
        self._lock = OwnedLock()
        self._taken: WeakValueDictionary[str, Lease] = WeakValueDictionary()
        fork_watch(self, Leases._after_fork)

    def _after_fork(self) -> None:
        self._lock.after_fork_in_child()

    def take(self, store: StoreParts, name: str, user: object) -> Lease | None:
        """Return the lease of a name for one more user; None if it is not to be had now."""
        with self._lock.held():
            lease = self._taken.get(name)
            if lease is None or not lease.is_held:
                lease = take(store.directory, name + SUFFIX)
                if lease is None:
                    return None
                self._taken[name] = lease
            lease.users.add(user)
            return lease

    def leave(self, name: str, user: object) -> None:
        """One user needs the lease of a name no more."""
        with self._lock.held():
            lease = self._taken.get(name)
            if lease is not None:
                lease.leave(user)

    def close(self, store: StoreParts) -> None:
        """Give all of them back, if the store is closed."""
        if store.is_released:
            for lease in list(self._taken.values()):
                lease.release()


def locked(store: StoreParts, name: str) -> ConsumerLocked:
    """Return what to raise where the lease of a name is another process's."""
    return ConsumerLocked(name, holder(store.directory, name + SUFFIX))


def leases_of(store: StoreParts) -> Leases:
    """Return the leases of a store object."""
    found: Leases | None = vars(store).get("leases")
    return vars(store).setdefault("leases", Leases()) if found is None else found
