"""OpenStore: combines the parts of a store, from opening to close().

Invariants:

* After close() calls raise StoreClosed.  A forked child opens its own at the first call.
* A store without references is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from kvengine.engine import closing, opening
from kvengine.engine.following.leases import leases_of
from kvengine.engine.following.tail import Tail
from kvengine.engine.following.tail import follow as follow_log
from kvengine.engine.following.waiting import check_timeout, check_version
from kvengine.engine.jobs import maintenance
from kvengine.engine.log.log_walk import Selector
from kvengine.engine.order.scanning import bytes_of
from kvengine.engine.parts import StoreParts
from kvengine.entry import Change
from kvengine.errors import StoreBusy


class OpenStore(StoreParts):
    """A store that was opened; users see Store.

    Thread-safety: threads may share it; writes are done one at a time.
    """

    def follow(
        self, after: int, prefix: Any = b"", timeout: float | None = None
    ) -> Iterator[Change | None]:
        """As tail() with `follow`, but gives None each time before it waits.

        So the caller can see to other things that a change may mean.
        """
        check_timeout(timeout)
        return follow_log(self, self.tail_from(after, prefix), timeout)

    def tail_from(self, after: int, prefix: Any) -> Tail:
        """Return a place in the log, behind a version, from which one can go on and on."""
        self.check_usable()
        check_version("after", after)
        return Tail(self, after, Selector(bytes_of("prefix", prefix)))

    def _wake(self) -> None:
        self.waiting.wake()

    def _has_grown(self) -> None:
        """The log takes more disk."""
        if maintenance.is_due(self):
            self.maintenance.wake()
            maintenance.pace(self)
        if not self.is_disk_low and self.reserve.is_due(self.log_bytes()):
            self.keep_reserve()

    def _refuse_use(self) -> None:
        if self.is_forked:
            opening.open_again(self)
        else:
            super()._refuse_use()

    def close(self) -> None:
        """Close it; see Store.close()."""
        if not self.is_released and self.closing.is_mine():
            raise StoreBusy("can't close the store in a signal handler that interrupted close()")
        try:
            closing.close_store(self)
        finally:
            leases_of(self).close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.is_released:
            closing.abandon(self)
