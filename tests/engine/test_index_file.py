"""The file of the saved index: loaded as it was saved, and nothing else is ever loaded.

Its description and its trailer are checked when it is opened, its shards when they are used; so
whatever byte is changed and wherever it is cut, answers are right or there is an error.
"""

import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import CorruptData, KvError, UnsupportedFormat
from kvengine.engine.index import index_file
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.index.index_file import Description, SavedSegment
from kvengine.engine.log.manifest import decode
from kvengine.engine.log.segment import MAP_BYTES
from kvengine.testing.crashing import KeptDirectory
from tests.engine.index_tables import (
    SHARD_BYTES,
    check_content,
    check_index,
    crowded,
    empty_folder,
    open_store,
)

UUID = bytes(range(16))
ID = 18
NAME = index_file.file_name(ID)
BIG = st.integers(0, 2**64 - 1)
TIMES = st.floats(min_value=0, allow_infinity=False)
SAMPLE = Description(
    version=70,
    count=60,
    removals=5,
    segments=(
        SavedSegment(1, 1, 4096, 3000, 100, 0, 0.0, 0.0),
        SavedSegment(9, 2, 640, 300, 0, 48, 1e9, 2e9),
    ),
    stash=((1 << 63, 16777220),),
    groups=(b"d", 5),
    group_rows=((0x64000000_00000000, 0.0, 59, 5000), (0x64000000_00000000, 2e9, 1, 70)),
    checksums=[xxh3_64(bytes(SHARD_BYTES), 0)],
)


def image(description=SAMPLE, uuid=UUID, index_id=ID):
    """Return the bytes of a file with empty shards."""
    meta = description.encode()
    offset = len(description.checksums) * SHARD_BYTES
    return bytes(offset) + meta + index_file.trailer(uuid, index_id, offset, meta)


def load(data, size=None):
    folder = KeptDirectory()
    folder.replace(NAME, bytes(data))
    return index_file.load(folder, ID, len(data) if size is None else size, UUID)


def assert_refused(data, size=None):
    with pytest.raises(CorruptData, match="rebuild=True") as caught:
        load(data, size)
    assert caught.value.file == NAME


def as_lists(description):
    """Return a description in a form that compares by content."""
    return (
        *(description.version, description.count, description.removals),
        *(list(description.segments), list(description.stash), list(description.checksums)),
        *(description.groups, list(description.group_rows)),
    )


# -- the description


@st.composite
def segment(draw, number):
    """Return a row of a segment as an index can have it."""
    end = draw(st.integers(64, MAP_BYTES))
    live = draw(st.integers(0, end - 64))
    tombstones = draw(st.integers(0, end - 64 - live))
    first, last = sorted(draw(st.tuples(TIMES, TIMES)))
    expiring = draw(st.integers(0, live)) if last else 0
    return SavedSegment(number, 65535 - number, end, live, tombstones, expiring, first, last)


@st.composite
def descriptions(draw):
    """Return a description whose numbers fit together."""
    rows = [draw(segment(number)) for number in range(1, draw(st.integers(1, 5)))]
    checksums = draw(st.lists(BIG, min_size=1, max_size=4))
    room = min(sum(row.live for row in rows) // 32, 8192 * len(checksums))
    count = draw(st.integers(0, room))
    stash = draw(st.lists(st.tuples(BIG, BIG), max_size=min(count, 4)))
    ends = draw(st.sets(st.floats(min_value=1, allow_infinity=False), max_size=min(count, 4)))
    return Description(
        draw(st.integers(0, 2**48 - 1)),
        count,
        draw(st.integers(0, 2**62 - 1)),
        tuple(rows),
        tuple(stash),
        draw(st.one_of(st.none(), st.tuples(st.binary(min_size=1, max_size=6), st.integers(6, 8)))),
        tuple((draw(BIG), end, 1, draw(st.integers(0, 2**62 - 1))) for end in ends),
        checksums,
    )


@settings(max_examples=50)
@given(descriptions())
def test_what_is_saved_is_loaded(saved):
    data = image(saved)
    file, found = load(data)
    assert file.size_bytes == len(data)
    assert as_lists(found) == as_lists(saved)


FIRST, SECOND = SAMPLE.segments


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1 << 48},
        {"removals": 1 << 62},
        {"count": 1 << 63},
        {"count": 8194},  # more than there are places
        {"count": 0},  # less than are stashed
        {"count": 104},  # more than fit into the living bytes
        {"segments": (FIRST, replace(SECOND, slot=1))},
        {"segments": (FIRST, replace(SECOND, id=1))},
        {"segments": (replace(FIRST, slot=0), SECOND)},
        {"segments": (replace(FIRST, slot=65536), SECOND)},
        {"segments": (replace(FIRST, id=0), SECOND)},
        {"segments": (replace(FIRST, end=63), SECOND)},
        {"segments": (replace(FIRST, end=MAP_BYTES + 65), SECOND)},
        {"segments": (replace(FIRST, live=1 << 63), SECOND)},
        {"segments": (replace(FIRST, live=3950), SECOND)},
        {"segments": (replace(FIRST, tombstones=1100), SECOND)},
        {"segments": (FIRST, replace(SECOND, expiring=301))},
        {"segments": (FIRST, replace(SECOND, expiry_min=0.0, expiry_max=0.0))},
        {"segments": (FIRST, replace(SECOND, expiry_min=3e9))},
        {"segments": (FIRST, replace(SECOND, expiry_max=float("nan")))},
        {"segments": (FIRST, replace(SECOND, expiry_max=float("inf")))},
        {"group_rows": ((1, 0.0, 61, 5),)},
        {"group_rows": ((1, 0.0, 0, 5),)},
        {"group_rows": ((1, 0.0, 1, 1 << 63),)},
        {"group_rows": ((1, float("nan"), 1, 5),)},
        {"group_rows": ((1, 0.0, 1, 5), (1, 0.0, 1, 6))},
    ],
)
def test_numbers_that_can_not_be_so_are_refused_though_the_checksum_is_right(changes):
    assert_refused(image(replace(SAMPLE, **changes)))


def test_every_change_of_a_byte_behind_the_shards_is_refused_at_open():
    data = bytearray(image())
    source = random.Random(5)
    for at in range(SHARD_BYTES, len(data)):
        mask = 1 << source.randrange(8)
        data[at] ^= mask
        assert_refused(data)
        data[at] ^= mask
    load(data)


def test_every_other_size_than_the_manifest_says_is_refused():
    data = image()
    for size in (*range(0, SHARD_BYTES, 4093), *range(SHARD_BYTES - 9, len(data))):
        assert_refused(data[:size], len(data))
    assert_refused(data + bytes(1), len(data))
    assert_refused(data * 2, len(data))


def test_every_truncation_is_refused_though_the_size_is_as_expected():
    """As if a manifest of an older moment named it, or the cut part reads as zeros."""
    data = image()
    for size in (*range(0, SHARD_BYTES, 4093), *range(SHARD_BYTES - 9, len(data))):
        assert_refused(data[:size])
        assert_refused(data[:size].ljust(len(data), b"\0"))
        if size:
            assert_refused(data[size:])


@given(st.binary(max_size=500))
def test_any_other_bytes_are_refused(data):
    assert_refused(data)
    assert_refused(bytes(SHARD_BYTES) + data)


def test_a_missing_file_is_refused():
    with pytest.raises(CorruptData, match="rebuild=True"):
        index_file.load(KeptDirectory(), ID, 70_000, UUID)


# -- files that are whole, but not the right ones


def test_the_file_of_another_store_or_with_another_number_is_refused():
    assert_refused(image(uuid=bytes(16)))
    assert_refused(image(index_id=ID + 1))


@pytest.mark.parametrize(("at", "field"), [(0, b"kvother\0"), (8, struct.pack("<I", 2))])
def test_another_format_is_said_to_be_one(at, field):
    data = image()
    body = bytearray(data[-index_file.TRAILER_BYTES : -8])
    body[at : at + len(field)] = field
    changed = data[: -index_file.TRAILER_BYTES] + body + struct.pack("<Q", xxh3_64(bytes(body)))
    with pytest.raises(UnsupportedFormat):
        load(changed)


@pytest.mark.parametrize("number", range(3, 6))
@pytest.mark.parametrize("count", [0, 3, 2**32, 2**64 - 1])
def test_counts_that_do_not_fit_are_refused_though_the_checksum_is_right(number, count):
    """Numbers 3 to 5 of the description say how many shards, segments and stashed entries."""
    meta = bytearray(SAMPLE.encode())
    assert struct.unpack_from("<6Q", meta)[3:] == (1, 2, 1)
    struct.pack_into("<Q", meta, number * 8, count)
    tail = index_file.trailer(UUID, ID, SHARD_BYTES, bytes(meta))
    assert_refused(bytes(SHARD_BYTES) + meta + tail)


def test_a_description_of_another_length_is_refused_though_the_checksum_is_right():
    meta = SAMPLE.encode()
    for other in (b"", meta[:47], meta[:48], meta[:-1], meta + b"\0", meta * 2):
        tail = index_file.trailer(UUID, ID, SHARD_BYTES, other)
        assert_refused(bytes(SHARD_BYTES) + other + tail)
    for offset in (0, SHARD_BYTES - 8, SHARD_BYTES + 8, 2**63, 2**64 - 1):
        tail = index_file.trailer(UUID, ID, offset, meta)
        assert_refused(bytes(SHARD_BYTES) + meta + tail)
    # A description of one shard behind two of them.
    tail = index_file.trailer(UUID, ID, 2 * SHARD_BYTES, meta)
    assert_refused(bytes(2 * SHARD_BYTES) + meta + tail)


# -- in a store


@pytest.fixture
def folder():
    """A store with one shard, and some keys that have no place in it."""
    found = empty_folder()
    with open_store(found) as store:
        store.update(content())
        store.checkpoint()
        store[b"later"] = b"value"
    return found


def content():
    """Return what is in the saved index of that store."""
    return {key: b"v" + key for key in (*crowded(70), *(b"key %d" % n for n in range(200)))}


def answer(folder, model):
    """Use a store in every way: True if all is right, False if there was an error of ours."""
    try:
        with open_store(folder) as store:
            assert store.get_many(model) == list(model.values())
            assert [store.get(key) for key in model] == list(model.values())
            assert [entry.value for entry in store.scan()] == [model[key] for key in sorted(model)]
            check_index(store._parts.key_index, model)
            assert store.verify().ok
    except KvError:
        return False
    return True


def test_every_damage_is_noticed_by_a_store_and_healed_by_rebuild(folder):
    """A sample of the changed bytes; tests.crash.damage tries them all."""
    name = max(name for name in folder.names() if name.endswith(".index"))
    whole = folder.read(name)
    model = content() | {b"later": b"value"}
    assert answer(folder, model)
    source = random.Random(2)
    used = [at for at in range(SHARD_BYTES) if whole[at]]
    places = source.sample(used, 60) + source.sample(range(SHARD_BYTES), 20)
    for at in places + source.sample(range(SHARD_BYTES, len(whole)), 20):
        data = bytearray(whole)
        data[at] ^= 1 << source.randrange(8)
        folder.replace(name, bytes(data))
        assert not answer(folder, model), at
    with open_store(folder, rebuild=True) as store:
        check_content(store, model)
        check_index(store._parts.key_index, model)
    assert answer(folder, model)


@pytest.mark.parametrize("size", [0, 1, SHARD_BYTES, -80, -1])
def test_a_cut_file_is_refused_by_a_store_and_healed_by_rebuild(folder, size):
    name = max(name for name in folder.names() if name.endswith(".index"))
    folder.replace(name, folder.read(name)[:size])
    with pytest.raises(CorruptData, match="rebuild=True"):
        open_store(folder)
    with open_store(folder, rebuild=True) as store:
        check_content(store, content() | {b"later": b"value"})
    assert answer(folder, content() | {b"later": b"value"})


@pytest.mark.parametrize("notes_the_seed", [True, False])
def test_the_index_of_another_seed_is_refused(folder, notes_the_seed):
    """Every key would be looked for in another place, and be absent."""
    manifest = decode(folder.read("MANIFEST"), "MANIFEST")
    if not notes_the_seed:  # as 0.1 wrote it
        name = index_file.file_name(manifest.index[0])
        data = folder.read(name)
        body = bytearray(data[-64:-8])
        body[12:16] = bytes(4)
        folder.replace(name, data[:-64] + body + struct.pack("<Q", xxh3_64(bytes(body))))
        with open_store(folder) as store:
            check_content(store, content() | {b"later": b"value"})
        manifest = decode(folder.read("MANIFEST"), "MANIFEST")
    folder.replace("MANIFEST", replace(manifest, seed=manifest.seed ^ 1).encode())
    with pytest.raises(CorruptData, match=r"seed .*rebuild=True"):
        open_store(folder)
    with open_store(folder, rebuild=True) as store:
        check_content(store, content() | {b"later": b"value"})
