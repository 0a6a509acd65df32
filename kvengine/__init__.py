"""kvengine: an embeddable, self-hostable Workers KV.  This is the public door.

>>> import kvengine
>>> store = kvengine.Store.in_memory()
>>> store.put(b"greeting", b"hello")
1
>>> store.get(b"greeting")
b'hello'
>>> store.close()
"""

from kvengine.engine.salvage import salvage
from kvengine.engine.store import Store
from kvengine.engine.verifying import verify
from kvengine.entry import Change, Entry, SalvageReport, Stats, VerifyReport
from kvengine.errors import (
    ChangesGone,
    CorruptData,
    InvalidRequest,
    InvalidType,
    KeyNotFound,
    KvError,
    NotAStore,
    StorageError,
    StorageFull,
    StoreClosed,
    StoreLocked,
    StoreReadOnly,
    UnsupportedFormat,
    VersionConflict,
)

__version__ = "0.1.0"

__all__ = [
    "Change",
    "ChangesGone",
    "CorruptData",
    "Entry",
    "InvalidRequest",
    "InvalidType",
    "KeyNotFound",
    "KvError",
    "NotAStore",
    "SalvageReport",
    "Stats",
    "StorageError",
    "StorageFull",
    "Store",
    "StoreClosed",
    "StoreLocked",
    "StoreReadOnly",
    "UnsupportedFormat",
    "VerifyReport",
    "VersionConflict",
    "__version__",
    "salvage",
    "verify",
]
