"""FORMAT.md is true: its tables are those of the code, its examples are what the code writes, and a
second reader that knows nothing but that page reads a real store."""

import json
import re
import struct
from pathlib import Path

import pytest

from kvengine import Store, UnsupportedFormat
from kvengine.engine import index_file, key_run, manifest, positions, segment_file
from kvengine.engine.hash import xxh3_64
from kvengine.engine.record import encode_record, layout
from kvengine.testing.clock import ManualClock
from tests.engine.format_reader import FolderReader, decode_record

PAGE = (Path(__file__).parents[2] / "kvengine/engine/FORMAT.md").read_text()
SIZES = {
    "Segment header": segment_file.HEADER_BYTES,
    "Record": 24,
    "Index description": index_file.FIXED.size,
    "Index segment row": index_file.SEGMENT.size,
    "Index group row": index_file.GROUP.size,
    "Index trailer": index_file.TRAILER_BYTES,
    "Key run header": 8 + key_run.HEADER.size,
    "Key block": 12,
    "Key entry": 7,
    "CONTROL": 80,
}


def tables():
    """Return {heading: [(offset, size, field)]} of the tables in FORMAT.md that give offsets."""
    found, heading = {}, ""
    for line in PAGE.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        row = re.match(r"\| (\d+) \| (\d+) \| (\w+) \|", line)
        if row:
            found.setdefault(heading, []).append((int(row[1]), int(row[2]), row[3]))
    return found


def example(kind):
    return re.search(rf"```\w+ {kind}\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.mark.parametrize("heading", SIZES)
def test_tables_have_no_gap_and_the_size_that_the_code_has(heading):
    at = 0
    for offset, size, field in tables()[heading]:
        assert offset == at, field
        at += size
    assert at == SIZES[heading]


def test_every_table_is_compared():
    assert set(tables()) == set(SIZES)


def test_the_table_of_a_record_is_its_struct():
    assert [(field, offset, size) for offset, size, field in tables()["Record"]] == layout()


@pytest.mark.parametrize(
    ("heading", "shape", "has_checksum"),
    [
        ("Segment header", segment_file.HEADER, "at the end"),
        ("Index description", index_file.FIXED, ""),
        ("Index segment row", index_file.SEGMENT, ""),
        ("Index group row", index_file.GROUP, ""),
        ("Index trailer", index_file.TRAILER, "at the end"),
        ("Key run header", key_run.HEADER, "at the start"),
    ],
)
def test_tables_are_the_structs_of_the_code(heading, shape, has_checksum):
    sizes = [size for _, size, _ in tables()[heading]]
    if has_checksum:
        sizes.pop(-1 if has_checksum == "at the end" else 0)
    parts = re.findall(r"\d*s|\d*[IQd]", shape.format.lstrip("<"))
    flat = []
    for part in parts:
        count, letter = int(part[:-1] or 1), part[-1]
        flat += [count] if letter == "s" else [struct.calcsize("<" + letter)] * count
    assert sizes == flat


def test_the_example_of_a_record():
    data = bytes.fromhex(example("record"))
    assert data == encode_record(7, 1, 0, 0.0, b"flag:dark", b"", b"on", 1064)
    assert decode_record(data, 0, 1064) == (7, 1, 0, None, b"flag:dark", b"", b"on", len(data))


def test_the_example_of_a_manifest():
    data = example("manifest").encode()
    decoded = manifest.decode(data, "MANIFEST")
    assert decoded.encode() == data
    assert decoded.segments[1].last_version is None
    names = set(re.findall(r"^\| `(\w+)` \| (?:number|text|list)", PAGE, re.MULTILINE))
    of_consumers = set(json.loads(example("consumer").splitlines()[0]))
    only_after_a_loss = {"lost"}
    assert names == set(json.loads(data.splitlines()[0])) | of_consumers | only_after_a_loss


def test_the_example_of_a_position_of_a_consumer():
    data = example("consumer").encode()
    assert positions.decode(data, "search.consumer").encode() == data


def test_the_position_of_a_consumer_is_where_the_page_says(store, tmp_path):
    consumer = store.consumer("search")
    list(consumer.changes())
    consumer.acknowledge(store.version)
    assert positions.decode((tmp_path / "search.consumer").read_bytes(), "search.consumer") == (
        positions.Position(
            store.manifest.uuid.hex(),
            "search",
            store.version,
            store.manifest.forgotten,
            store.options.clock.time(),
        )
    )


@pytest.fixture
def store(tmp_path):
    options = {"durability": "os", "compaction": "manual", "segment_bytes": 4096}
    with Store(tmp_path, key_buffer_entries=16, clock=ManualClock(), **options) as opened:
        with opened.batch() as batch:
            for number in range(300):
                batch.put(b"key %d" % number, b"%d" % number * (number % 20))
        opened.put(b"large", b"x" * 5000, metadata=b"about it")
        opened.put(b"expires", b"later", expires_at=opened.options.clock.time() + 100.5)
        for number in range(0, 300, 3):
            opened.delete(b"key %d" % number)
        opened.compact()
        opened.put(b"empty", b"")
        opened.checkpoint()
        opened.put(b"after the saved index", b"1")
        yield opened


def test_a_second_reader_reads_a_store(store, tmp_path):
    reader = FolderReader(tmp_path)
    wanted = {
        entry.key: (entry.value, entry.metadata, entry.expires_at, entry.version)
        for entry in store.scan()
    }
    assert len(wanted) == 204
    assert reader.contents() == wanted
    assert reader.version == store.version


def test_a_second_reader_finds_keys_by_the_saved_index(store, tmp_path):
    reader = FolderReader(tmp_path)
    indexed = {entry.key for entry in store.scan()} - {b"after the saved index"}
    assert reader.indexed_keys() == indexed
    for key in indexed:
        assert reader.find(key) == key
    assert reader.find(b"key 0") is None


def test_a_second_reader_finds_all_keys_in_key_runs(store, tmp_path):
    reader = FolderReader(tmp_path)
    in_runs = reader.keys_in_runs()
    assert in_runs >= reader.indexed_keys()


def test_control_says_where_the_writer_is(store, tmp_path):
    words = struct.unpack("<8s5Q", (tmp_path / "CONTROL").read_bytes()[:48])
    assert words[0] == b"VKCTRL01"
    assert words[3] == store.version
    assert words[5] == store.manifest.generation
    assert int((tmp_path / "LOCK").read_text()) == words[2]


# -- other versions of the format


def test_another_format_of_the_manifest_is_refused(tmp_path):
    Store(tmp_path).close()
    path = tmp_path / "MANIFEST"
    body = path.read_bytes().splitlines()[0]
    for number in (0, 2, 999):
        other = body.replace(b'"format":1', b'"format":%d' % number)
        path.write_bytes(other + b"\n%016x\n" % xxh3_64(other))
        before = path.read_bytes()
        for read_only in (False, True):
            with pytest.raises(
                UnsupportedFormat, match=rf"MANIFEST has format {number};.*reads.*1"
            ):
                Store(tmp_path, read_only=read_only)
        assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["log", "index", "keys"])
def test_another_format_of_a_file_is_refused(tmp_path, suffix):
    with Store(tmp_path, key_buffer_entries=16) as store:
        store.update({b"%d" % n: b"" for n in range(100)})
        store.checkpoint()
    path = next(tmp_path.glob(f"*.{suffix}"))
    data = path.read_bytes()
    path.write_bytes(with_format(data, suffix, 2))
    with pytest.raises(UnsupportedFormat, match=rf"{path.name} has format 2.*1"), Store(tmp_path):
        pass
    assert path.read_bytes() == with_format(data, suffix, 2)
    path.write_bytes(data)
    with Store(tmp_path) as store:
        assert len(store) == 100


def with_format(data, suffix, number):
    """Return a file that claims another format, with a checksum that is right."""
    copy = bytearray(data)
    if suffix == "keys":
        copy[16:20] = struct.pack("<I", number)
        copy[:8] = struct.pack("<Q", xxh3_64(copy[8:4096]))
        return bytes(copy)
    at = 0 if suffix == "log" else len(data) - 64
    copy[at + 8 : at + 12] = struct.pack("<I", number)
    copy[at + 56 : at + 64] = struct.pack("<Q", xxh3_64(copy[at : at + 56]))
    return bytes(copy)
