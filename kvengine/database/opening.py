"""Opening a database in a folder: kvengine.open().

Invariants:

* The settings of the store are those of kvengine.options.Options, except those that a database
  sets itself; a typo raises TypeError before anything is touched.
"""

from __future__ import annotations

from typing import Any, Literal

from kvengine.clock import SYSTEM_CLOCK, Clock
from kvengine.database.database import Database
from kvengine.engine.store import Store
from kvengine.metering.ledger import INTERVAL_S
from kvengine.namespace.layout import GROUPS
from kvengine.namespace.limits import limits_of
from kvengine.options import Durability, Options, named


def open_database(
    path: Any,
    *,
    limits: Any = "relaxed",
    usage_interval_s: float = INTERVAL_S,
    durability: Durability = "group",
    sync_interval_s: float = 0.05,
    read_only: bool = False,
    exclusive: bool = False,
    create: bool = True,
    allow_network_filesystem: bool = False,
    rebuild: bool = False,
    log_writes: Literal["auto", "pwrite"] = "auto",
    segment_bytes: int = 64 << 20,
    compaction: Literal["auto", "manual"] = "auto",
    space_target: float = 1.3,
    compaction_bytes_per_s: int = 256 << 20,
    checkpoint_records: int = 1_000_000,
    key_buffer_entries: int = 65_536,
    verify: Literal["auto", "always"] = "auto",
    clock: Clock = SYSTEM_CLOCK,
    retention_s: float = 7 * 86400.0,
) -> Database:
    """Open the database in a folder, creating both if they do not exist.

    Any number of processes may open it and write.  See Store, also for further errors.

    Args:
        path: the folder.
        limits: "relaxed" (the default), "strict" (as Cloudflare), or a Limits.
        usage_interval_s: seconds between saves of the usage counts.
        durability, read_only, exclusive: as of Store.
        The others are settings that few need: kvengine.options.Options says what each is for.

    Raises:
        NotAStore: the folder holds other files, or a store that is not a database.
        StoreLocked: another process has it open with ``exclusive=True``, or this call wants to.
    """
    options = named(Options, locals())
    chosen = limits_of(limits)
    store = Store(path, groups=GROUPS, **options)
    try:
        return Database(store, limits=chosen, usage_interval_s=usage_interval_s)
    except BaseException:
        store.close()
        raise
