"""The engines that can be compared, one adapter a file.

Invariants: importing this package imports no peer; a peer is imported when it is opened or asked
for its version.
"""

from benchmarks.engines.bare import BareFile
from benchmarks.engines.base import Engine
from benchmarks.engines.dictionary import Dict
from benchmarks.engines.diskcache import DiskCache
from benchmarks.engines.kvengine import Kvengine
from benchmarks.engines.lmdb import Lmdb
from benchmarks.engines.plyvel import Plyvel
from benchmarks.engines.rocksdict import RocksDict
from benchmarks.engines.sqlite import Sqlite
from benchmarks.engines.wiredtiger import WiredTiger

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        Dict,
        Kvengine,
        Lmdb,
        RocksDict,
        Plyvel,
        Sqlite,
        WiredTiger,
        DiskCache,
        BareFile,
    )
}
