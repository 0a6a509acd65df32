"""kvengine: an embeddable, self-hostable Workers KV.  This is the public interface.

>>> import kvengine
>>> db = kvengine.Database.in_memory()  # or kvengine.open(path), or kvengine.connect(url)
>>> kv = db.namespace("greetings")
>>> version = kv.put("en", "hello", expiration_ttl=3600)
>>> kv.get("en")
'hello'
>>> db.close()

kvengine.aio has the same with async methods (import it first), kvengine.Edge answers reads from
copies, kvengine.Store is the engine alone, and kvengine.testing simulates edges.
"""

from kvengine import _checkout as _checkout  # first: it may compile what follows
from kvengine.cache.cached_store import CachedStore
from kvengine.cache.memory import Cache
from kvengine.client.database import RemoteDatabase, connect
from kvengine.client.namespace import RemoteNamespace
from kvengine.database.database import Database
from kvengine.database.edge import Edge
from kvengine.database.edge_namespace import EdgeNamespace, ValueRead
from kvengine.database.edge_stats import EdgeStats
from kvengine.database.follower import Follower
from kvengine.database.opening import open_database as open  # noqa: A004
from kvengine.engine.following.consumer import Consumer, ConsumerInfo
from kvengine.engine.recovery.salvage import salvage
from kvengine.engine.recovery.verifying import verify
from kvengine.engine.store import Store
from kvengine.entry import Change, Digest, Entry, GroupSize, SalvageReport, Stats, VerifyReport
from kvengine.errors import (
    AccessDenied,
    ConsumerLocked,
    CorruptData,
    InvalidRequest,
    InvalidType,
    KeyNotFound,
    KvError,
    LimitExceeded,
    LogCompacted,
    NamespaceExists,
    NamespaceNotFound,
    NotAStore,
    NotCaughtUp,
    ProtocolError,
    RateLimited,
    ReplicaDiverged,
    StorageError,
    StorageFull,
    StoreBusy,
    StoreClosed,
    StoreLocked,
    StoreReadOnly,
    UnsupportedFormat,
    UpstreamUnavailable,
    VersionConflict,
)
from kvengine.metering.pricing import SEED_PRICES, Bill, PriceTable, price
from kvengine.metering.usage import Usage
from kvengine.namespace.interface.results import (
    BulkReport,
    DatabaseChange,
    ExportReport,
    ImportReport,
    KeyChange,
    KeyDetails,
    KeyInfo,
    ListResult,
    NamespaceInfo,
    ValueWithMetadata,
)
from kvengine.namespace.limits import RELAXED, STRICT, Limits
from kvengine.namespace.namespace import Namespace
from kvengine.replication.network.log_server import LogServer, serve_log
from kvengine.replication.network.remote import RemoteSource, connect_log
from kvengine.replication.promoting import promote

__version__ = "0.2.0"

__all__ = [
    "RELAXED",
    "SEED_PRICES",
    "STRICT",
    "AccessDenied",
    "Bill",
    "BulkReport",
    "Cache",
    "CachedStore",
    "Change",
    "Consumer",
    "ConsumerInfo",
    "ConsumerLocked",
    "CorruptData",
    "Database",
    "DatabaseChange",
    "Digest",
    "Edge",
    "EdgeNamespace",
    "EdgeStats",
    "Entry",
    "ExportReport",
    "Follower",
    "GroupSize",
    "ImportReport",
    "InvalidRequest",
    "InvalidType",
    "KeyChange",
    "KeyDetails",
    "KeyInfo",
    "KeyNotFound",
    "KvError",
    "LimitExceeded",
    "Limits",
    "ListResult",
    "LogCompacted",
    "LogServer",
    "Namespace",
    "NamespaceExists",
    "NamespaceInfo",
    "NamespaceNotFound",
    "NotAStore",
    "NotCaughtUp",
    "PriceTable",
    "ProtocolError",
    "RateLimited",
    "RemoteDatabase",
    "RemoteNamespace",
    "RemoteSource",
    "ReplicaDiverged",
    "SalvageReport",
    "Stats",
    "StorageError",
    "StorageFull",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreLocked",
    "StoreReadOnly",
    "UnsupportedFormat",
    "UpstreamUnavailable",
    "Usage",
    "ValueRead",
    "ValueWithMetadata",
    "VerifyReport",
    "VersionConflict",
    "__version__",
    "connect",
    "connect_log",
    "open",
    "price",
    "promote",
    "salvage",
    "serve_log",
    "verify",
]
