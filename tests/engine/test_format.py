"""FORMAT.md is true: its tables are those of the code, its examples are what the code writes, and a
second reader that knows nothing but that page reads a real store."""

import json
import mmap
import os
import re
import struct
from pathlib import Path

import pytest

from kvengine import Store, UnsupportedFormat
from kvengine.engine.following import positions
from kvengine.engine.index import index_file
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log import manifest, segment_file
from kvengine.engine.log.record import encode_record, layout
from kvengine.engine.order import key_run
from kvengine.file.system import boot_id
from kvengine.testing.clock import ManualClock
from tests.engine.format_reader import FolderReader, decode_record

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "kvengine/engine/FORMAT.md").read_text()
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
    "CONTROL": 512,
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
            store._parts.manifest.uuid.hex(),
            "search",
            store.version,
            store._parts.manifest.forgotten,
            store._parts.options.clock.time(),
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
        opened.put(b"expires", b"later", expires_at=opened._parts.options.clock.time() + 100.5)
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


def test_the_table_of_control_is_the_words_of_the_code():
    """A test of control.pyx compares what the words mean."""
    text = (ROOT / "kvengine/engine/log/page.pxd").read_text()
    found = re.findall(r"^    ([A-Z_]+) = (\d+)", text.split("\n\n")[3], re.MULTILINE)
    words = {name: int(number) for name, number in found}
    words["MAGIC"] = words.pop("MAGIC_WORD")
    fields = {field: offset for offset, _, field in tables()["CONTROL"] if field != "unused"}
    assert fields == {name.lower(): 8 * number for name, number in words.items()}


def control_of(folder):
    """Return what the page says, by the names of the table."""
    data = (folder / "CONTROL").read_bytes()
    assert len(data) == 4096
    assert not any(data[512:])
    places = [row for row in tables()["CONTROL"] if row[1] in {4, 8}]
    return {field: int.from_bytes(data[at : at + size], "little") for at, size, field in places}


def test_control_says_where_the_log_ends(store, tmp_path):
    page = store._parts.maintenance.run(lambda: control_of(tmp_path))
    newest = store._parts.rows[-1]
    size = (tmp_path / f"{newest.id:08x}.log").stat().st_size
    wanted = {
        "magic": int.from_bytes(b"VKCTRL02", "little"),
        "boot": boot_id(),
        "pid": os.getpid(),
        "version": store.version,
        "generation": store._parts.manifest.generation,
        "segment": newest.id,
        "begun": newest.first_version,
        "allocated": size,
        "writing": 0,
        "held": 0,
        "failed": 0,
        "losses": 0,
        "job_token": store._parts.token,
    }
    assert {name: page[name] for name in wanted} == wanted
    assert int((tmp_path / "LOCK").read_text()) == page["pid"]
    assert page["min_segment"] <= page["next_id"]
    assert page["next_id"] > max(row.id for row in store._parts.rows)
    with Store(tmp_path) as other:  # it comes later, and believes what is there
        assert control_of(tmp_path)["epoch"] == page["epoch"]
        other.put(b"of another", b"1")
        assert control_of(tmp_path)["version"] == page["version"] + 1 == store.version


def words_of(folder):
    """Map the page, to be in the place of a process that is killed."""
    with open(folder / "CONTROL", "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")


def leave_behind(store, folder, *records):
    """Put records behind the end of the log, as one does that is killed before they are visible."""
    row = store._parts.rows[-1]
    _, end, _, _, _ = store._parts.segment_table.counters(row.id)
    path = folder / f"{row.id:08x}.log"
    salt = int.from_bytes(path.read_bytes()[48:56], "little")
    with open(path, "r+b") as file:
        for key, flags in records:
            version = store.version + 1 + records.index((key, flags))
            data = encode_record(version, 1, flags, 0.0, key, b"", b"never visible", salt + end)
            file.seek(end)
            file.write(data)
            end += len(data)
    words_of(folder)[16] = 1  # writing


@pytest.mark.parametrize(
    "records", [[(b"whole", 0)], [(b"whole", 0), (b"next", 0)], [(b"in part", 4)]]
)
def test_a_segment_counts_up_to_the_one_that_was_begun_next(store, tmp_path, records):
    """The log goes on in another segment: what is left behind is never seen, by nobody."""
    wanted, newest = dict(store.items()), store._parts.rows[-1].id
    with Store(tmp_path, clock=store._parts.options.clock) as other:
        leave_behind(store, tmp_path, *records)
        assert dict(store.items()) == dict(other.items()) == wanted
        version = other.put(b"new", b"1")
        assert control_of(tmp_path)["segment"] > newest
        assert control_of(tmp_path)["begun"] == version == store.version
        assert control_of(tmp_path)["writing"] == 0
        wanted[b"new"] = b"1"
        assert dict(store.items()) == dict(other.items()) == wanted
    check_all(store, tmp_path, wanted)


def check_all(store, folder, wanted):
    """Compare what is seen here, by others, by the second reader, and by who comes after all."""
    assert dict(store.items()) == wanted
    clock, version = store._parts.options.clock, store.version
    with Store(folder, read_only=True, clock=clock) as reader:
        assert dict(reader.items()) == wanted
    second = FolderReader(folder)
    assert {key: row[0] for key, row in second.contents().items()} == wanted
    assert second.version == version
    store.close()
    (folder / "CONTROL").unlink()  # on another boot, say: then files alone tell
    with Store(folder, clock=clock) as alone:
        assert dict(alone.items()) == wanted
        assert alone.version == version


def test_of_segments_with_one_first_version_the_one_begun_last_counts(store, tmp_path):
    """Who began the one before was killed before it had written anything that is visible."""
    wanted, salt, segment_id = dict(store.items()), 7, store._parts.take_id()
    header = segment_file.SegmentHeader(
        0, store._parts.manifest.uuid, segment_id, store.version + 1, salt
    ).encode()
    record = encode_record(
        store.version + 1, 1, 0, 0.0, b"left", b"", b"never visible", salt + len(header)
    )
    (tmp_path / f"{segment_id:08x}.log").write_bytes(header + record)
    words_of(tmp_path)[16] = 1  # writing
    store.put(b"new", b"1")
    assert store._parts.rows[-1].id > segment_id
    check_all(store, tmp_path, wanted | {b"new": b"1"})


# -- other versions of the format


def test_another_format_of_the_manifest_is_refused(tmp_path):
    Store(tmp_path).close()
    path = tmp_path / "MANIFEST"
    body = path.read_bytes().splitlines()[0]
    for number in (0, 3, 999):
        other = body.replace(b'"format":2', b'"format":%d' % number)
        path.write_bytes(other + b"\n%016x\n" % xxh3_64(other))
        before = path.read_bytes()
        for read_only in (False, True):
            with pytest.raises(
                UnsupportedFormat, match=rf"MANIFEST has format {number};.*reads formats 1 to 2"
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
