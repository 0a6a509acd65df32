"""A manifest is read as it was written, or refused; it is never half believed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import CorruptData, KvError, UnsupportedFormat
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log.manifest import COMPACTED, LOG, Manifest, SegmentRow, decode

numbers = st.integers(0, 2**62 - 1)
versions = st.integers(0, 2**48 - 1)


@st.composite
def rows(draw):
    """Return segments with growing versions; the last one may be open."""
    found, version = [], 0
    ids = draw(st.lists(st.integers(1, 2**61), unique=True, max_size=5))
    for number in ids:
        first = version + draw(st.integers(1, 2**40))
        version = first + draw(st.integers(0, 2**40))
        kind = draw(st.sampled_from([LOG, COMPACTED]))
        size = draw(numbers if kind == COMPACTED else st.none() | numbers)
        found.append(SegmentRow(number, kind, first, version, size))
    if draw(st.booleans()):
        found.append(SegmentRow(2**61 + 1, LOG, version + draw(st.integers(1, 9))))
    return tuple(found)


manifests = st.builds(
    Manifest,
    uuid=st.binary(min_size=16, max_size=16),
    seed=st.integers(0, 2**64 - 1),
    generation=numbers,
    next_id=st.integers(2**61 + 2, 2**62 - 1),
    version=versions,
    forgotten=versions,
    segments=rows(),
    index=st.none() | st.tuples(numbers, numbers),
    key_runs=st.lists(
        st.from_regex(r"[0-9a-f]{8}\.keys", fullmatch=True), max_size=5, unique=True
    ).map(tuple),
)
SAMPLE = Manifest(
    uuid=bytes(range(16)),
    seed=2**64 - 1,
    generation=7,
    next_id=9,
    version=100,
    forgotten=3,
    segments=(SegmentRow(1, COMPACTED, 1, 50, 4096), SegmentRow(8, LOG, 51)),
    index=(5, 70_000),
    key_runs=("00000006.keys",),
)


@given(manifests)
def test_a_manifest_comes_back(manifest):
    assert decode(manifest.encode(), "MANIFEST") == manifest


def test_the_next_manifest_says_so():
    following = SAMPLE.next(version=101)
    assert (following.generation, following.version) == (8, 101)
    assert following.segments == SAMPLE.segments


def test_every_changed_bit_is_refused():
    data = SAMPLE.encode()
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(CorruptData) as failure:
                decode(bytes(changed), "MANIFEST")
            assert failure.value.file == "MANIFEST"


def test_every_truncation_and_extension_is_refused():
    data = SAMPLE.encode()
    for size in range(len(data)):
        with pytest.raises(CorruptData, match="manifest checksum in MANIFEST"):
            decode(data[:size], "MANIFEST")
    for more in (b"\n", b"\0", data):
        with pytest.raises(CorruptData, match="manifest checksum in MANIFEST"):
            decode(data + more, "MANIFEST")


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(data):
    with pytest.raises(CorruptData):
        decode(data, "MANIFEST")


def with_fields(**changes):
    """Return a manifest with other fields and a checksum that is right."""
    fields = json.loads(SAMPLE.encode().splitlines()[0])
    fields.update(changes)
    body = json.dumps({name: value for name, value in fields.items() if value != "absent"})
    return body.encode() + b"\n%016x\n" % xxh3_64(body.encode())


@pytest.mark.parametrize("number", [0, 3, 17])
def test_another_format_is_refused_and_named(number):
    message = f"MANIFEST has format {number};.*reads formats 1 to 2"
    with pytest.raises(UnsupportedFormat, match=message):
        decode(with_fields(format=number), "MANIFEST")


def test_format_1_is_read_and_the_next_manifest_has_this_one():
    found = decode(with_fields(format=1), "MANIFEST")
    assert found.format == 1
    assert found == replace(SAMPLE, format=1)
    assert decode(found.next(version=101).encode(), "MANIFEST").format == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "absent"},
        {"uuid": "absent"},
        {"uuid": "xyz"},
        {"uuid": 5},
        {"seed": None},
        {"seed": 2**64},
        {"generation": -1},
        {"version": "7"},
        {"segments": 5},
        {"segments": [[1, 2]]},
        {"segments": [[1, 7, 1, None, None]]},
        {"segments": [["1", 0, 1, None, None]]},
        {"index": [1]},
        {"index": "5"},
        {"key_runs": [5]},
        {"key_runs": ["../../etc/passwd"]},
        {"key_runs": ["00000001.log"]},
        {"key_runs": ["00000006.keys", "00000006.keys"]},
        {"key_runs": None},
        {"generation": 2**62},
        {"version": 2**48},
        {"forgotten": 2**48},
        {"next_id": 8},  # not above the ids of the segments
        {"next_id": 1e3},
        {"segments": None},
        {"segments": [[1, 1, 1, 50, 4096], [1, 0, 51, None, None]]},
        {"segments": [[0, 1, 1, 50, 4096]]},
        {"segments": [[1, 1, 0, 50, 4096]]},
        {"segments": [[1, 1, 9, 50, 4096], [8, 0, 8, None, None]]},  # not in their order
        {"segments": [[1, 0, 1, None, None], [8, 0, 51, None, None]]},  # two are open
        {"segments": [[1, 0, 1, None, 4096]]},
        {"segments": [[1, 0, 9, 7, 4096]]},
        {"segments": [[1, 1, 1, 50, None]]},
        {"segments": [[1, 0, 1, 2**48, 4096]]},
        {"origin": {}},
        {"origin": [5, None, [], []]},
        {"origin": ["00", None, [], []]},
        {"origin": ["", 2**48, [], []]},
        {"origin": ["", None, ["zz"], []]},
        {"origin": ["", None, None, []]},
    ],
)
def test_fields_that_make_no_sense_are_refused(changes):
    """A manifest by a broken writer has a right checksum; it must still not be believed."""
    with pytest.raises(KvError, match="MANIFEST"):
        decode(with_fields(**changes), "MANIFEST")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b"7", b'"text"', b"\xff", b"{", b"[" * 100_000]
)
def test_a_right_checksum_of_anything_else_is_refused(body):
    with pytest.raises(KvError, match="MANIFEST"):
        decode(body + b"\n%016x\n" % xxh3_64(body), "MANIFEST")


def test_segments_that_end_too_late_end_where_the_next_begins():
    """0.1 wrote such manifests: after a crash all segments ended with the saved index."""
    segments = [[1, 0, 1, 76, 4096], [3, 0, 29, 76, 4096], [8, 0, 77, None, None]]
    found = decode(with_fields(segments=segments), "MANIFEST").segments
    assert [row.last_version for row in found] == [28, 76, None]
