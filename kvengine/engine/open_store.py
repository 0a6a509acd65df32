"""OpenStore: combines the parts of a store, from opening to close().

Invariants:

* After close() calls raise StoreClosed.  A forked child opens its own at the first call.
* A store without references is closed.
"""

from __future__ import annotations

from typing import Self

from kvengine.engine import closing, opening
from kvengine.engine.following.leases import leases_of
from kvengine.engine.jobs import maintenance
from kvengine.engine.parts import StoreParts
from kvengine.errors import StoreBusy


class OpenStore(StoreParts):
    """A store that was opened; users see Store.

    Thread-safety: threads may share it; writes are done one at a time.
    """

    def _has_grown(self) -> None:
        """The log takes more disk."""
        if maintenance.is_due(self):
            self.maintenance.wake()
            maintenance.pace(self)
        if not self.is_tight and self.reserve.is_due(self.log_bytes()):
            self.keep_reserve()

    def _refuse_use(self) -> None:
        if self.is_forked:
            opening.open_again(self)
        else:
            super()._refuse_use()

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self.is_refused

    def close(self) -> None:
        """Save what makes the next open fast, and release all resources.

        Another thread that calls close() waits until it is done.  If close() is interrupted, the
        store is still open, or can be closed again.

        Raises:
            StoreBusy: called from a signal handler that interrupted close() in the same thread.
        """
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
