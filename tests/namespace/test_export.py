"""Exports: which pairs, in which form, to which files, and how a broken one goes on."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvengine
from kvengine.errors import InvalidRequest, InvalidType, NamespaceNotFound, StorageError
from kvengine.namespace.transfer import export as exporting
from kvengine.testing.clock import ManualClock

LINES = (
    b'{"key":"a","value":"one"}\n',
    b'{"key":"b/1","value":"/w==","base64":true,"metadata":{"n":1}}\n',
    b'{"key":"b/2","value":"","expiration":1700000060}\n',
    '{"key":"é","value":"a\\nb","metadata":"m"}\n'.encode(),
)
ALL = {
    "ndjson": b"".join(LINES),
    "wrangler": b"[" + b",".join(LINES) + b"]",
}


@pytest.fixture
def db() -> Iterator[kvengine.Database]:
    with kvengine.Database.in_memory(clock=ManualClock()) as db:
        yield db


@pytest.fixture
def kv(db) -> kvengine.Namespace:
    kv = db.namespace("full")
    kv.put("é", "a\nb", metadata="m")
    kv.put("b/2", b"", expiration_ttl=60)
    kv.put("b/1", b"\xff", metadata={"n": 1})
    kv.put("a", "one")
    db.namespace("other").put("a", "of another namespace")
    return kv


def exported(kv, **options) -> bytes:
    file = io.BytesIO()
    report = kv.export_file(file, **options)
    assert report.bytes == len(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize("shape", ["ndjson", "wrangler"])
def test_both_forms(kv, shape: str) -> None:
    assert exported(kv, format=shape) == ALL[shape]


def test_the_array_is_one_for_json(kv) -> None:
    assert json.loads(ALL["wrangler"]) == [json.loads(line) for line in LINES]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"prefix": "b/"}, LINES[1:3]),
        ({"prefix": "é"}, LINES[3:]),
        ({"prefix": "none"}, ()),
        ({"start_after": "b/1"}, LINES[2:]),
        ({"start_after": "b"}, LINES[1:]),
        ({"prefix": "b/", "start_after": "b/1"}, LINES[2:3]),
        ({"start_after": "é"}, ()),
    ],
)
def test_a_part_of_the_keys(kv, options: dict, lines: tuple) -> None:
    assert exported(kv, **options) == b"".join(lines)
    assert exported(kv, **options, format="wrangler") == b"[" + b",".join(lines) + b"]"


def test_the_report(kv, db) -> None:
    report = kv.export_file(io.BytesIO())
    assert (report.keys, report.bytes) == (4, len(ALL["ndjson"]))
    assert (report.last_key, report.version) == ("é", db.version)
    empty = kv.export_file(io.BytesIO(), prefix="none")
    assert (empty.keys, empty.bytes, empty.last_key) == (0, 0, None)


def test_what_has_ended_is_left_out(kv, db) -> None:
    db.clock.advance(60)
    assert exported(kv) == LINES[0] + LINES[1] + LINES[3]


def test_it_counts_as_a_read_for_each_key_and_a_list_for_each_thousand(db) -> None:
    kv = db.namespace("many")
    for number in range(1001):
        kv.put(f"{number}", "12")
    kv.export_file(io.BytesIO())
    assert (kv._meter.reads, kv._meter.lists, kv._meter.bytes_out) == (1001, 2, 2002)
    kv.export_file(io.BytesIO(), prefix="none")
    assert (kv._meter.reads, kv._meter.lists) == (1001, 3)


def test_progress(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 40)
    seen: list[tuple[int, int]] = []
    kv.export_file(io.BytesIO(), progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (2, 4)
    assert seen[-1] == (4, 4)


@pytest.mark.parametrize(
    ("file", "options"),
    [
        (None, {}),
        (5, {}),
        (io.StringIO(), {}),
        (io.BytesIO(), {"format": "csv"}),
        (io.BytesIO(), {"format": None}),
        (io.BytesIO(), {"format": ["ndjson"]}),
        (io.BytesIO(), {"prefix": b"a"}),
        (io.BytesIO(), {"prefix": "\ud800"}),
        (io.BytesIO(), {"start_after": 5}),
        (io.BytesIO(), {"resume": True}),
    ],
)
def test_bad_arguments(kv, file, options: dict) -> None:
    with pytest.raises(InvalidRequest):
        kv.export_file(file, **options)


# -- files


@pytest.mark.parametrize("shape", ["ndjson", "wrangler"])
def test_a_path(kv, tmp_path: Path, shape: str) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(b"old")
    kv.export_file(path, format=shape)
    assert path.read_bytes() == ALL[shape]
    assert os.listdir(tmp_path) == ["pairs"]


def test_a_file_that_takes_little_at_once(kv) -> None:
    class Slow(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.data += bytes(data[:7])
            return min(len(data), 7)

    with Slow() as slow:
        kv.export_file(slow)
        assert slow.data == ALL["ndjson"]


def test_a_text_file_is_refused(kv, tmp_path: Path) -> None:
    with (tmp_path / "text").open("w") as file, pytest.raises(InvalidType, match="'wb'"):
        kv.export_file(file)


def test_a_folder_and_an_absent_folder_are_refused(kv, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "file"):
        with pytest.raises(StorageError):
            kv.export_file(path)
    assert os.listdir(tmp_path) == []


def test_a_namespace_that_is_deleted_meanwhile_ends_it(
    kv, db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 1)
    with pytest.raises(NamespaceNotFound):
        kv.export_file(tmp_path / "pairs", progress=lambda done, total: db.delete("full"))
    assert os.listdir(tmp_path) == ["pairs.part"]
    with pytest.raises(NamespaceNotFound):
        kv.export_file(tmp_path / "pairs")


def test_other_keys_may_change_meanwhile(db, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is not touched comes exactly once."""
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 1000)
    kv, file = db.namespace("busy"), io.BytesIO()
    for number in range(5000):
        kv.put(f"{number:05}", "v" * 10)

    def change(done: int, _total: int) -> None:
        kv.delete(f"{done - 1:05}")
        kv.put(f"new {done}", "w")

    kv.export_file(file, progress=change)
    found = [json.loads(line)["key"] for line in file.getvalue().splitlines()]
    assert [key for key in found if not key.startswith("new")] == [f"{n:05}" for n in range(5000)]


def test_an_export_is_of_one_moment(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 1)
    file, before = io.BytesIO(), kv._store.version

    def change(_done: int, _total: int) -> None:
        kv.delete("é")
        kv.put("b/2", "changed")
        kv.put("c", "new")

    report = kv.export_file(file, progress=change)
    assert file.getvalue() == ALL["ndjson"]
    assert report.version == before


# -- going on


@pytest.mark.parametrize("shape", ["ndjson", "wrangler"])
def test_an_export_that_was_cut_at_any_byte_goes_on(kv, tmp_path: Path, shape: str) -> None:
    path, part = tmp_path / "pairs", tmp_path / "pairs.part"
    whole = ALL[shape]
    for size in range(len(whole) + 1):
        part.write_bytes(whole[:size])
        report = kv.export_file(path, format=shape, resume=True)
        assert path.read_bytes() == whole, size
        assert report.keys == 4 - whole[:size].count(b"\n")
        assert not part.exists()


def test_it_goes_on_behind_keys_that_are_gone(kv, tmp_path: Path) -> None:
    (tmp_path / "pairs.part").write_bytes(LINES[0] + LINES[1] + LINES[2][:5])
    kv.delete("b/1")
    kv.export_file(tmp_path / "pairs", resume=True)
    assert (tmp_path / "pairs").read_bytes() == ALL["ndjson"]


def test_a_start_behind_what_is_there_counts(kv, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    (tmp_path / "pairs.part").write_bytes(LINES[0])
    kv.export_file(path, start_after="b/1", resume=True)
    assert path.read_bytes() == LINES[0] + LINES[2] + LINES[3]


def test_without_resume_it_begins_anew(kv, tmp_path: Path) -> None:
    (tmp_path / "pairs.part").write_bytes(b'{"key":"y","value":"of something else"}\n')
    kv.export_file(tmp_path / "pairs")
    assert (tmp_path / "pairs").read_bytes() == ALL["ndjson"]


def test_with_nothing_to_resume_it_begins(kv, tmp_path: Path) -> None:
    kv.export_file(tmp_path / "pairs", resume=True)
    assert (tmp_path / "pairs").read_bytes() == ALL["ndjson"]


@pytest.mark.parametrize(
    ("part", "options", "said"),
    [
        (ALL["ndjson"], {"format": "wrangler"}, "not an unfinished export of this format"),
        (ALL["wrangler"][:-1], {"format": "ndjson"}, "not an unfinished export of this format"),
        (b"something else\n", {}, "not an unfinished export of this format"),
        (b'{"value":"v"}\n', {}, "not an unfinished export of this format"),
        (b'{"key":5}\n', {}, "not an unfinished export of this format"),
        (b"[]\n", {}, "not an unfinished export of this format"),
        (LINES[0], {"prefix": "b"}, "another prefix"),
    ],
)
def test_another_unfinished_file_is_left_alone(
    kv, tmp_path: Path, part: bytes, options: dict, said: str
) -> None:
    (tmp_path / "pairs.part").write_bytes(part + b"and a rest")
    with pytest.raises(InvalidRequest, match=said):
        kv.export_file(tmp_path / "pairs", resume=True, **options)
    assert os.listdir(tmp_path) == ["pairs.part"]
    assert (tmp_path / "pairs.part").read_bytes() == part + b"and a rest"


def test_a_snapshot_is_exported_as_it_is(kv, db) -> None:
    with db.snapshot() as frozen:
        kv.delete("a")
        assert exported(frozen.namespace("full")) == ALL["ndjson"]


def test_a_reader_exports_beside_the_writer(tmp_path: Path) -> None:
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("n").put("k", "v")
        with kvengine.open(tmp_path / "db", read_only=True) as reader:
            assert exported(reader.namespace("n")) == b'{"key":"k","value":"v"}\n'
