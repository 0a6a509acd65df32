"""Files of another version of kvengine are refused by name and number, and stay as they are."""

import pytest

from kvengine import CorruptData, Store, UnsupportedFormat
from kvengine.engine.index import index_file
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log import segment_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def content_of_folder(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def rewrite(file, change):
    file.write_bytes(change(file.read_bytes()))


def other_manifest(number):
    def change(data):
        body = data[:-18].replace(b'"format":2', b'"format":%d' % number)
        return body + b"\n%016x\n" % xxh3_64(body)

    return change


def other_segment(number):
    def change(data):
        body = data[:8] + number.to_bytes(4, "little") + data[12 : segment_file.HEADER.size]
        return body + xxh3_64(body).to_bytes(8, "little") + data[segment_file.HEADER_BYTES :]

    return change


def other_index(number):
    def change(data):
        at = len(data) - index_file.TRAILER_BYTES
        body = data[at : at + 8] + number.to_bytes(4, "little") + data[at + 12 : -8]
        return data[:at] + body + xxh3_64(body).to_bytes(8, "little")

    return change


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize(
    ("pattern", "change"),
    [("MANIFEST", other_manifest), ("*.log", other_segment), ("*.index", other_index)],
    ids=["manifest", "segment", "index"],
)
def test_another_format(path, pattern, change, number, read_only):
    with Store(path) as store:
        store[b"key"] = b"value"
        store.checkpoint()
    file = min(path.glob(pattern))
    right = file.read_bytes()
    rewrite(file, change(number))
    before = content_of_folder(path)
    with pytest.raises(UnsupportedFormat) as refusal:
        Store(path, read_only=read_only)
    assert f"{file.name} has format {number}; this version" in str(refusal.value)
    assert str(refusal.value).endswith("formats 1 to 2" if pattern == "MANIFEST" else " 1")
    unheld = {"LOCK": b""}
    assert content_of_folder(path) | unheld == before | unheld
    file.write_bytes(right)
    with Store(path, read_only=read_only) as store:
        assert store[b"key"] == b"value"


def test_a_missing_manifest_is_damage_and_not_a_new_store(path):
    with Store(path) as store:
        store[b"key"] = b"value"
    (path / "MANIFEST").unlink()
    before = content_of_folder(path)
    for options in ({}, {"read_only": True}, {"rebuild": True}):
        with pytest.raises(CorruptData, match="MANIFEST at byte 0: expected a manifest, found"):
            Store(path, **options)
    assert content_of_folder(path) == before
