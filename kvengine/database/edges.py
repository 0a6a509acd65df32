"""The primary for the edges of a database in the same process.

Invariants:

* Either all of it runs or, if its caller was interrupted, nothing.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from kvengine.database.catalog import Catalog
from kvengine.edge.primary import Primary
from kvengine.edge.settings import Settings
from kvengine.edge.timers import Timers
from kvengine.engine.store import Store
from kvengine.namespace.layout import is_for_edges


def begin_primary(store: Store, catalog: Catalog, undo: ExitStack) -> tuple[Timers, Primary]:
    """Return a primary and its timers; leaving `undo` ends both."""
    timers = Timers("kvengine-primary")
    undo.callback(timers.close)
    primary = Primary(
        store,
        Settings(),
        monotonic=time.monotonic,
        later=timers.later,
        concerns=is_for_edges,
        check=catalog.check_key,
    )
    undo.callback(primary.close)
    timers.begin()
    primary.begin()
    return timers, primary
