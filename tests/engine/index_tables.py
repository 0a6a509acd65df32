"""What tests of the key index share: stores with a known seed, hostile keys, a look into shards.

Invariants:

* check_index() knows the layout from FORMAT.md only: an entry is tag, distance and address.
* The seed is fixed, so the keys that collide are the same in every run.
"""

from array import array
from collections import Counter, defaultdict
from functools import cache

from kvengine import Store
from kvengine.engine.index.key_index import hash_of
from kvengine.engine.index.saved_index import SavedIndex
from kvengine.engine.log.manifest import Manifest
from kvengine.testing.crashing import KeptDirectory

SEED = 20260401
BUCKETS, BUCKET_ENTRIES, NEIGHBORHOOD = 1024, 8, 8
SHARD_BYTES = 65536
OPTIONS = {"durability": "os", "compaction": "manual"}


def empty_folder():
    """Return a folder in memory with a store of a known seed."""
    folder = KeptDirectory()
    folder.replace("MANIFEST", Manifest(uuid=bytes(16), seed=SEED).encode())
    return folder


def open_store(folder=None, **options):
    """Open a store in such a folder, a new one if none is given."""
    return Store._in_directory(folder or empty_folder(), **OPTIONS, **options)


def tag(key):
    """Return the tag of a key: the top 21 bits of its hash."""
    return hash_of(key, SEED) >> 43


def bucket(key):
    """Return the bucket of a key: the low ten bits of its hash."""
    return hash_of(key, SEED) & (BUCKETS - 1)


@cache
def _by_bucket():
    found = defaultdict(list)
    for number in range(200_000):
        key = b"%d" % number
        found[bucket(key)].append(key)
    return found


@cache
def crowded(count, first=100):
    """Return keys of one bucket."""
    return tuple(_by_bucket()[first][:count])


@cache
def twins():
    """Return pairs of keys that the index cannot tell apart: same tag, same bucket."""
    pairs = []
    for keys in _by_bucket().values():
        seen = {}
        for key in keys:
            other = seen.setdefault(tag(key), key)
            if other != key:
                pairs.append((other, key))
    return tuple(pairs)


def is_growing(index):
    """True while entries are being moved to a larger table."""
    if index.begin_snapshot():
        index.end_snapshot()
        return False
    return True


def shards_of(index):
    """Return the bytes of all shards; ends a growth first."""
    while not index.settle():
        pass
    count = index.begin_snapshot()
    try:
        return [index.snapshot(shard) for shard in range(count)]
    finally:
        index.end_snapshot()


def check_shard(data):
    """Return [(tag, home bucket, address)] of a shard, after checking where each entry lies."""
    rows = [array("Q", data[at : at + 64]) for at in range(0, len(data), 64)]
    assert len(rows) == BUCKETS
    found = []
    for position, row in enumerate(rows):
        used = [entry for entry in row if entry]
        assert list(row[: len(used)]) == used, "a bucket has a gap"
        for entry in used:
            distance = entry >> 40 & 7
            home = (position - distance) % BUCKETS
            for between in range(distance):
                assert rows[(home + between) % BUCKETS][-1], "an entry lies behind free room"
            found.append((entry >> 43, home, entry & (1 << 40) - 1))
    return found


def check_index(index: SavedIndex, keys):
    """The tables hold one entry for each of the keys, each where a search finds it."""
    shards = shards_of(index)
    stash = index.stashed()
    entries = []
    for number, data in enumerate(shards):
        found = check_shard(data)
        assert all(mark * len(shards) >> 21 == number for mark, _, _ in found)
        entries += found
    entries += [(hash_ >> 43, hash_ & (BUCKETS - 1), address) for hash_, address in stash]
    assert len({address for _, _, address in entries}) == len(entries), "one record, two entries"
    expected = Counter((tag(key), bucket(key)) for key in keys)
    assert Counter((mark, home) for mark, home, _ in entries) == expected
    assert index.count == len(entries)
    return len(shards), len(stash)


def check_content(store, model):
    """The store holds what a dict does, in every way to read it."""
    keys = sorted(model)
    assert list(store.keys()) == keys
    assert store.get_many(keys) == [model[key] for key in keys]
    assert len(store) == len(model)
    for key in keys:
        assert store.get(key) == model[key]
