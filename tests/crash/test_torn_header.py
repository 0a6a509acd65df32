"""A segment whose header a power cut tore holds nothing durable; a damaged header is damage."""

import struct

import pytest

from kvengine import CorruptData, Store
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log import segment_file
from kvengine.engine.log.manifest import COMPACTED
from kvengine.testing.crashing import folder_of
from kvengine.testing.history import content_of

HEADER_BYTES = segment_file.HEADER_BYTES
OPTIONS = {"compaction": "manual", "durability": "os", "segment_bytes": 8192}
NAME = "00000002.log"


@pytest.fixture(scope="module")
def files():
    """Return a store whose second segment was begun and never synced, as after a power cut."""
    while True:
        found = files_of_a_store()
        if found[NAME][HEADER_BYTES - 1]:  # else a header is whole though its last byte was torn
            return found


def files_of_a_store():
    folder = folder_of({})
    store = Store._in_directory(folder, **OPTIONS)
    for number in range(40):
        store.put(b"key %d" % number, b"v" * 90)
    store.sync()
    while len(store._parts.rows) == 1:
        store.put(b"last of the first", b"w" * 200)
    store.put(b"in the second", b"2")
    found = {name: folder.read(name) for name in folder.names() if name not in ("LOCK", "CONTROL")}
    assert sorted(found) == ["00000001.log", NAME, "MANIFEST"]
    return found


def opened(files, data):
    """Open the store with other bytes in its second segment, twice; return what it holds."""
    folder = folder_of({**files, NAME: data})
    with Store._in_directory(folder, **OPTIONS) as store:
        first = content_of(store)
        store.put(b"goes on", b"here")
    with Store._in_directory(folder, **OPTIONS) as store:
        assert store.verify().ok
        assert content_of(store) == {**first, b"goes on": (b"here", store.version)}
    return first


@pytest.mark.parametrize("rest", ["nothing", "zeros", "records"])
@pytest.mark.parametrize("end", ["beginning", "end"])
def test_a_header_that_is_torn_at_any_byte_is_as_none(files, end, rest):
    header, records = files[NAME][:HEADER_BYTES], files[NAME][HEADER_BYTES:]
    behind = {"nothing": b"", "zeros": bytes(4096), "records": records}[rest]
    for cut in range(HEADER_BYTES):
        if end == "beginning":
            torn = header[:cut] + bytes(HEADER_BYTES - cut)
        else:
            torn = bytes(cut + 1) + header[cut + 1 :]
        data = torn + behind
        if rest == "nothing" and end == "beginning":
            data = header[:cut]
        content = opened(files, data)
        assert b"in the second" not in content
        assert len(content) == 41


@pytest.mark.parametrize("end", ["beginning", "end"])
def test_a_torn_header_of_a_segment_that_compaction_began_is_as_none(files, end):
    with Store._in_directory(folder_of(files), **OPTIONS) as store:
        uuid, expected = store._parts.manifest.uuid, content_of(store)
    header = segment_file.SegmentHeader(COMPACTED, uuid, 9, 1, 1 << 63 | 1).encode()
    for cut in range(HEADER_BYTES):
        part = bytes(cut + 1) + header[cut + 1 :]
        if end == "beginning":
            part = header[:cut] + bytes(HEADER_BYTES - cut)
        folder = folder_of({**files, "00000009.log": part})
        with Store._in_directory(folder, **OPTIONS) as store:
            assert content_of(store) == expected
            assert "00000009.log" not in folder.names()


def test_other_damage_to_the_header_is_damage(files):
    data = files[NAME]
    for at in range(HEADER_BYTES):
        for mask in (1, 0x80, 0xFF):
            changed = bytearray(data)
            changed[at] ^= mask
            with pytest.raises(CorruptData, match=f"header.*{NAME}"):
                Store._in_directory(folder_of({**files, NAME: bytes(changed)}), **OPTIONS)


@pytest.mark.parametrize("cut", [0, 8, 40, 48, 57, 63])
def test_a_torn_header_is_damage_if_something_in_the_segment_was_durable(files, cut):
    """The control page says how far the log was on disk."""
    page = bytearray(4096)
    struct.pack_into("<4Q", page, 0, 0x31304C5254434B56, 7, 1, 1 << 40)
    found = folder_of({**files, "CONTROL": bytes(page)})
    with Store._in_directory(found, **OPTIONS) as store:
        version = store.version
    struct.pack_into("<Q", page, 32, version)
    torn = files[NAME][:cut] + bytes(HEADER_BYTES - cut) + files[NAME][HEADER_BYTES:]
    broken = {**files, NAME: torn, "CONTROL": bytes(page)}
    with pytest.raises(CorruptData, match=f"expected changes up to version {version}"):
        Store._in_directory(folder_of(broken), **OPTIONS)


def test_a_torn_header_is_damage_if_a_later_segment_vouches_for_it(files):
    folder = folder_of(files)
    with Store._in_directory(folder, **OPTIONS) as store:
        while len(store._parts.rows) < 3:
            store.put(b"more", b"m" * 500, durability="sync")
        store.put(b"durable", b"d", durability="sync")
        store.put(b"marks it", b"d", durability="sync")
        left = {name: folder.read(name) for name in folder.names()}
    left = {name: data for name, data in left.items() if name.endswith(".log")}
    left |= {"MANIFEST": files["MANIFEST"], NAME: left[NAME][:20] + bytes(44) + left[NAME][64:]}
    with pytest.raises(CorruptData, match=r"00000003\.log"):
        Store._in_directory(folder_of(left), **OPTIONS)


def test_a_header_with_a_right_checksum_must_be_that_of_its_file(files):
    data = bytearray(files[NAME])
    struct.pack_into("<Q", data, 32, 1)  # the id of the first segment
    struct.pack_into("<Q", data, 56, xxh3_64(bytes(data[:56])))
    with pytest.raises(CorruptData, match=f"segment header in {NAME}"):
        Store._in_directory(folder_of({**files, NAME: bytes(data)}), **OPTIONS)
