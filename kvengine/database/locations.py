"""What the locations of a database in this process ask and listen to.

Invariants:

* It runs as a whole, or, if its caller was interrupted, not at all.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from kvengine.database.catalog import Catalog
from kvengine.edge.center import Center
from kvengine.edge.settings import Settings
from kvengine.edge.timers import Timers
from kvengine.engine.store import Store
from kvengine.namespace.layout import is_for_locations


def begin_center(store: Store, catalog: Catalog, undo: ExitStack) -> tuple[Timers, Center]:
    """Return a center and its timers; leaving `undo` ends both."""
    timers = Timers("kvengine-center")
    undo.callback(timers.close)
    center = Center(
        store,
        Settings(),
        monotonic=time.monotonic,
        later=timers.later,
        concerns=is_for_locations,
        check=catalog.check_key,
    )
    undo.callback(center.close)
    timers.begin()
    center.begin()
    return timers, center
