"""What must be true of every open store, whatever was done to it.

Invariants:

* Nothing is changed; a store that passes can be used further.
* The first thing that is wrong raises AssertionError with the figures that disagree.
"""

from kvengine.engine.store import Store
from kvengine.entry import Change, Entry

RECORD_HEADER_BYTES = 24  # see engine/FORMAT.md
EXPIRY_BYTES = 8
VALUE_CHECKSUM_BYTES = 8
LARGE_VALUE_BYTES = 4096  # a larger value has a checksum of its own
ALIGNMENT_BYTES = 16


def record_bytes(entry: Entry | Change) -> int:
    """Return how many bytes the record of an entry takes in the log."""
    size = RECORD_HEADER_BYTES + len(entry.key) + len(entry.metadata) + len(entry.value)
    size += EXPIRY_BYTES if entry.expires_at is not None else 0
    size += VALUE_CHECKSUM_BYTES if len(entry.value) > LARGE_VALUE_BYTES else 0
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def check_store(store: Store) -> None:
    """Compare a store's parts with each other.

    The store must not be written to meanwhile.

    Raises:
        AssertionError: two parts disagree; the message says which.
        StoreClosed: the store is closed.
    """
    with store._parts.jobs:  # so that no background work moves records between two looks
        report = store.verify()
        assert report.ok, f"verify() found {report.problems}"
        entries = _check_order(store)
        newest = max((entry.version for entry in entries), default=0)
        assert newest <= store.version, f"an entry has version {newest}, the store {store.version}"
        stats = store.stats()
        assert stats.version == store.version, "stats() gives another version"
        assert stats.keys >= len(entries), f"stats() counts {stats.keys} keys, not {len(entries)}"
        assert stats.live_bytes <= stats.log_bytes, f"more is alive than there is: {stats}"
        _check_tail(store, entries, stats.live_bytes)


def _check_order(store: Store) -> list[Entry]:
    """Whatever way one reads, the same keys and values come out; return them."""
    keys = list(store.keys())
    assert keys == sorted(set(keys)), "keys() is not sorted or gives a key twice"
    assert len(store) == len(keys), f"len() is {len(store)}, keys() gives {len(keys)}"
    assert list(store.keys(reverse=True)) == keys[::-1], "keys(reverse=True) gives other keys"
    entries = list(store.scan())
    assert [entry.key for entry in entries] == keys, "scan() gives other keys than keys()"
    for entry in entries:
        assert store.get_entry(entry.key) == entry, f"get_entry() differs for {entry.key!r}"
        assert store.get(entry.key) == entry.value, f"get() differs for {entry.key!r}"
    assert store.get_many(keys) == [entry.value for entry in entries], "get_many() differs"
    return entries


def _check_tail(store: Store, entries: list[Entry], live_bytes: int) -> None:
    """The newest change of each key in the log must be what the index says."""
    newest: dict[bytes, Change] = {}
    last = 0
    for change in store.tail():
        assert change.version > last, f"tail() gives {change.version} after {last}"
        last = change.version
        newest[change.key] = change
    puts = {key: change for key, change in newest.items() if change.kind == "put"}
    for entry in entries:
        assert entry.key in puts, f"{entry.key!r} is in the index, but not in the log"
        found = puts[entry.key]
        assert found[2:] == entry[:4], f"the log has other bytes for {entry.key!r}"
        assert found.version == entry.version, f"the log has another version of {entry.key!r}"
    dead = puts.keys() - {entry.key for entry in entries}
    revived = [key for key in dead if puts[key].expires_at is None]
    assert not revived, f"the log has puts that the index does not know: {revived}"
    expected = sum(record_bytes(change) for change in puts.values())
    assert live_bytes == expected, f"live bytes are {live_bytes}, the log has {expected}"
