"""The index, saved and loaded: what comes back is what was, and a damaged shard is never believed.

* A snapshot is the index of one moment, whatever is written while it is taken.
* A loaded index is never written back, and goes on as if it had never left memory.
* Every change of a byte of a shard is detected when the shard is first used, by whatever uses it:
  reads, writes, snapshots, growth, compaction.  The log is never harmed by it.
"""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import CorruptData
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.index.saved_index import SavedIndex
from kvengine.engine.jobs import compactor
from kvengine.engine.log.segment import SegmentTable
from kvengine.testing.crashing import KeptDirectory
from tests.engine.index_tables import (
    BUCKETS,
    SHARD_BYTES,
    check_content,
    check_index,
    check_shard,
    crowded,
    empty_folder,
    open_store,
    shards_of,
    tag,
    twins,
)

POOL = crowded(90) + crowded(30, first=103) + tuple(key for pair in twins()[:4] for key in pair)


def index_name(folder):
    return max(name for name in folder.names() if name.endswith(".index"))


def saved(count, **options):
    """Return a folder with a store of so many keys, all in its saved index."""
    folder = empty_folder()
    with open_store(folder, **options) as store:
        store.update((b"%d" % number, b"v%d" % number) for number in range(count))
        store.checkpoint()
    return folder


def damage(folder, at, mask=16):
    name = index_name(folder)
    data = bytearray(folder.read(name))
    data[at] ^= mask
    folder.replace(name, bytes(data))


class Source:
    """Stands for the file in the errors of an index."""

    name = "some.index"


def adopt(shards, count=0, checksums=None, slots=()):
    """Load shards (bytes) into an index of their own, beside segments in some slots."""
    descriptor = os.memfd_create("index")
    table, folder = SegmentTable(), KeptDirectory()
    for slot in slots:
        file = folder.open(f"{slot:08x}.log", create=True, writable=True, map_bytes=4096)
        table.place(slot, file, slot, 0, 1 << 20)
    try:
        os.write(descriptor, b"".join(shards))
        index = SavedIndex(table)
        sums = checksums or [xxh3_64(data, number) for number, data in enumerate(shards)]
        index.adopt(descriptor, Source(), len(shards), sums, count)
        return index
    finally:
        os.close(descriptor)


def place(rows, home, mark, address):
    """Put an entry into a shard (a list of lists) as FORMAT.md says; False if it is full."""
    for distance in range(8):
        row = rows[(home + distance) % BUCKETS]
        if len(row) < 8:
            row.append(mark << 43 | distance << 40 | address)
            return True
    return False


def to_bytes(rows):
    return b"".join(
        entry.to_bytes(8, "little") for row in rows for entry in row + [0] * (8 - len(row))
    )


# -- save, load, go on


@settings(max_examples=40)
@given(
    phases=st.lists(
        st.lists(st.tuples(st.booleans(), st.sampled_from(POOL)), max_size=40), max_size=4
    ),
    filler=st.sampled_from([0, 5_571, 9_000]),
)
def test_an_index_that_is_saved_and_loaded_again_and_again_is_as_a_dict(phases, filler):
    folder = empty_folder()
    model = {b"filler %d" % number: b"" for number in range(filler)}
    model.update(dict.fromkeys(POOL, b"first"))
    with open_store(folder) as store:
        store.update(model)  # some have no place and are in the stash
        store.checkpoint()
    for turn, changes in enumerate(phases):
        with open_store(folder) as store:
            for is_put, key in changes:
                if is_put:
                    store[key] = model[key] = b"%d" % turn
                else:
                    assert bool(store.delete(key)) == (model.pop(key, None) is not None)
            if turn % 2 == 0:
                store.checkpoint()
    with open_store(folder) as store:
        assert store.get_many(POOL) == [model.get(key) for key in POOL]
        check_index(store._parts.key_index, model)
        assert list(store.keys()) == sorted(model)


def test_what_is_loaded_is_byte_for_byte_what_was_saved():
    folder = empty_folder()
    with open_store(folder) as store:
        store.update(dict.fromkeys(POOL, b""))
        store.checkpoint()
        shards, stash = shards_of(store._parts.key_index), store._parts.key_index.stashed()
    assert stash
    with open_store(folder) as store:
        assert shards_of(store._parts.key_index) == shards
        assert store._parts.key_index.stashed() == stash
        assert store._parts.key_index.count == len(POOL)


def test_a_loaded_index_is_not_written_back():
    folder = saved(20_000)
    before = folder.read(index_name(folder))
    with open_store(folder) as store:
        for number in range(0, 2_000, 2):
            store[b"%d" % number] = b"new"
            del store[b"%d" % (number + 1)]
        assert folder.read(index_name(folder)) == before
        store.update((b"more %d" % number, b"") for number in range(20_000))  # grows
        assert len(store) == 39_000


# -- snapshots


@settings(max_examples=15)
@given(st.integers(), st.integers(0, 3))
def test_a_snapshot_is_the_index_of_one_moment(seed, taken_first):
    source = random.Random(seed)
    with open_store() as store:
        index, model = store._parts.key_index, dict.fromkeys(POOL, b"")
        model.update((b"filler %d" % number, b"") for number in range(13_000))
        store.update(model)
        before, stash = shards_of(index), index.stashed()
        count = index.begin_snapshot()
        assert count == len(before) >= 3
        found = [index.snapshot(shard) for shard in range(taken_first)]
        for number in range(200):
            key = source.choice(POOL) if number % 2 else b"filler %d" % source.randrange(14_000)
            if source.random() < 0.5:
                store[key] = model[key] = b"new"
            else:
                store.delete(key)
                model.pop(key, None)
        found += [index.snapshot(shard) for shard in range(taken_first, count)]
        index.end_snapshot()
        assert found == before
        assert len(stash) + sum(len(check_shard(data)) for data in found) == 13_000 + len(POOL)
        check_index(index, model)


def test_a_new_snapshot_ends_the_last_and_none_begins_during_a_growth():
    with open_store() as store:
        index = store._parts.key_index
        assert index.begin_snapshot() == 1
        assert index.begin_snapshot() == 1  # who wanted the first one was interrupted
        index.end_snapshot()
        store.update((b"%d" % number, b"") for number in range(5_571))
        assert index.begin_snapshot() == 0
        assert index.settle()
        assert index.begin_snapshot() == 2


def test_a_snapshot_makes_way_for_a_growth_that_cannot_wait():
    with open_store() as store:
        index = store._parts.key_index
        assert index.begin_snapshot() == 1
        store.update((b"%d" % number, b"") for number in range(6_100))
        assert index.memory_bytes() < 2 * SHARD_BYTES  # it waits,
        assert not any(index.snapshot(0))
        store.update((b"%d" % number, b"") for number in range(6_100, 6_200))
        assert index.memory_bytes() > 2 * SHARD_BYTES  # but not forever
        assert index.snapshot(0) is None
        check_index(index, [b"%d" % number for number in range(6_200)])


# -- what a recovery needs


@settings(max_examples=50)
@given(st.integers(), st.sets(st.integers(1, 6)))
def test_purge_drops_the_entries_of_slots_that_are_gone_and_no_other(seed, gone):
    source = random.Random(seed)
    rows, stash, kept = [[] for _ in range(BUCKETS)], [], []
    for number in range(10, 309):
        home = source.choice([100, 101, 104, 1022, 1023])
        mark, slot = source.randrange(1 << 21), source.randint(1, 6)
        address = slot << 24 | number
        if not place(rows, home, mark, address):
            stash.append((mark << 43 | home, address))
        if slot not in gone:
            kept.append((mark, home, address))
    index = adopt([to_bytes(rows)], count=299, slots=set(range(1, 7)) - gone)
    index.restore_stash(stash)
    assert index.purge(list(gone)) == 299 - len(kept)
    assert index.count == len(kept)
    found = check_shard(shards_of(index)[0])
    found += [(hash_ >> 43, hash_ & 1023, address) for hash_, address in index.stashed()]
    assert sorted(found) == sorted(kept)


# -- damage


def test_every_damaged_byte_of_a_shard_is_detected_at_its_first_use():
    source = random.Random(3)
    shards = [bytes(SHARD_BYTES)] * 3
    sums = [xxh3_64(data, number) for number, data in enumerate(shards)]
    for at in range(0, SHARD_BYTES, 31):
        changed = bytearray(shards[1])
        changed[at] ^= 1 << source.randrange(8)
        index = adopt([shards[0], bytes(changed), shards[2]], checksums=sums)
        index.begin_snapshot()
        assert (index.snapshot(0), index.snapshot(2)) == (shards[0], shards[2])
        for _ in range(2):  # it stays refused
            with pytest.raises(CorruptData, match=r"some\.index at byte 65536"):
                index.snapshot(1)
        if at % 5 == 0:
            with pytest.raises(CorruptData):
                index.purge([])


ENTRY = 5 << 43 | 1 << 24 | 10  # tag 5, of shard 0 of 1; slot 1, offset 160


@pytest.mark.parametrize(
    ("place", "entry"),
    [
        (0, ENTRY & ~(0xFFFF << 24) | 2 << 24),  # a slot without a segment
        (0, ENTRY | 0xFFFF << 24),
        (0, ENTRY & ~0xFFFFFF),  # in the header of the segment
        (0, ENTRY | 0xFFFFFF),  # behind its end
        (1, ENTRY),  # behind an empty place of its bucket
        (8, ENTRY | 1 << 40),  # behind a bucket with room
    ],
)
def test_entries_that_make_no_sense_are_refused_though_the_checksum_is_right(place, entry):
    shard = bytearray(SHARD_BYTES)
    shard[place * 8 : place * 8 + 8] = entry.to_bytes(8, "little")
    for index in (adopt([bytes(shard)], 1, slots=[1]), adopt([bytes(shard)], 1, slots=[1])):
        for _ in range(2):
            with pytest.raises(CorruptData, match=r"or an entry .*rebuild=True"):
                index.purge([])


def test_entries_of_another_shard_are_refused():
    shard = bytearray(SHARD_BYTES)
    shard[:8] = ENTRY.to_bytes(8, "little")
    index = adopt([bytes(SHARD_BYTES), bytes(shard)], 1, slots=[1])
    with pytest.raises(CorruptData, match=r"or an entry"):
        index.purge([])


@pytest.mark.parametrize("count", [0, 2])
def test_a_number_of_keys_that_is_not_that_of_the_shards_is_refused_with_the_last_of_them(count):
    shard = bytearray(SHARD_BYTES)
    shard[:8] = ENTRY.to_bytes(8, "little")
    assert adopt([bytes(shard), bytes(SHARD_BYTES)], 1, slots=[1]).purge([]) == 0
    with pytest.raises(CorruptData, match=r"or an entry"):
        adopt([bytes(shard), bytes(SHARD_BYTES)], count, slots=[1]).purge([])


def test_shards_that_changed_places_are_refused():
    index = adopt([bytes(SHARD_BYTES)] * 2, checksums=[xxh3_64(bytes(SHARD_BYTES), 0)] * 2)
    index.begin_snapshot()
    assert index.snapshot(0) == bytes(SHARD_BYTES)
    with pytest.raises(CorruptData):
        index.snapshot(1)


def test_a_damaged_shard_refuses_its_keys_and_no_others():
    folder = saved(30_000)
    shards = len(folder.read(index_name(folder))) // SHARD_BYTES
    damage(folder, 2 * SHARD_BYTES + 4_000)
    assert shards == 6
    with open_store(folder) as store:
        for number in range(0, 31_000, 7):
            key = b"%d" % number
            if tag(key) * shards >> 21 != 2:
                assert store.get(key) == (b"v" + key if number < 30_000 else None)
                continue
            for use in (
                lambda key=key: store.get(key),
                lambda key=key: store.get_many([key]),
                lambda key=key: key in store,
                lambda key=key: store.put(key, b""),
                lambda key=key: store.delete(key),
            ):
                with pytest.raises(CorruptData, match="rebuild=True"):
                    use()
        with pytest.raises(CorruptData):
            list(store.scan())
        with pytest.raises(CorruptData):
            store.checkpoint()
        assert store.version == 30_000
        assert not store.verify().ok
    with open_store(folder, rebuild=True) as store:
        check_content(store, {b"%d" % number: b"v%d" % number for number in range(30_000)})
        assert store.verify().ok


@pytest.mark.parametrize("shard", [0, 1, 5])
def test_a_growth_that_meets_a_damaged_shard_harms_neither_log_nor_tables(shard):
    """The insert that pays for the growth is in the log already: it must not fail."""
    folder = saved(30_000)
    damage(folder, shard * SHARD_BYTES + 1)
    model = {b"%d" % number: b"v%d" % number for number in range(30_000)}
    with open_store(folder) as store:
        for number in range(10_000):
            key = b"more %d" % number
            is_damaged = tag(key) * 6 >> 21 == shard
            try:
                store[key] = b""
            except CorruptData:
                assert is_damaged
            else:
                assert not is_damaged
                model[key] = b""
        assert store.version == store._parts.key_index.count == len(model)
        found = sum(store.get(key) == b"" for key in list(model)[30_000:])
        assert found == len(model) - 30_000
        stash = store._parts.key_index.stashed()
        for _ in range(50):  # what was tried in vain leaves no copies of entries
            with pytest.raises(CorruptData):
                store._parts.key_index.settle()
        assert store._parts.key_index.stashed() == stash
    with open_store(folder, rebuild=True) as store:
        check_content(store, model)
        check_index(store._parts.key_index, model)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_compaction_believes_no_shard_that_was_not_compared(is_damaged):
    """Else it would drop living records, or let a good shard look damaged later."""
    options = {"segment_bytes": 65536, "space_target": 1.05}
    folder = saved(15_000, **options)
    model = {b"%d" % number: b"v%d" % number for number in range(15_000)}
    with open_store(folder, **options) as store:
        for number in range(0, 15_000, 2):
            store[b"%d" % number] = model[b"%d" % number] = b"new"
        store._parts.end_active_segment()
        store.checkpoint()
    if is_damaged:
        data = folder.read(index_name(folder))
        entries = [at for at in range(5, 65536, 8) if data[at]]
        damage(folder, entries[100])  # another tag: that key would seem to be gone
    with open_store(folder, **options) as store, store._parts.jobs:
        try:
            parts = store._parts
            while plan := compactor.plan_next(parts):
                store._parts.maintenance.run(
                    lambda plan=plan: compactor.compact(store._parts, plan)
                )
        except CorruptData:
            assert is_damaged
        else:
            assert not is_damaged
            check_content(store, model)
            assert store.stats().space_amplification < 1.2
    with open_store(folder, rebuild=True, **options) as store:
        check_content(store, model)
