"""A record: what is encoded is decoded, and nothing that was changed, cut or moved is.

One bit is enough, anywhere, padding too; and a record is good only where it was written.
"""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import CorruptData, Store, verify
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log.record import REASONS, damage, decode_record, encode_record, layout
from kvengine.options import KEY_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX
from tests.engine import format_reader

PUT, DELETE = 1, 2
EXPIRES, LARGE, MORE, DURABLE = 1, 2, 4, 8
SMALL_VALUE_BYTES = 4096
SEED = 0x1234_5678_9ABC_DEF0
NOISE = random.Random(7).randbytes(3 * SMALL_VALUE_BYTES)

# (flags, key bytes, metadata bytes, value bytes): the edges of each size, with and without expiry.
SAMPLES = [
    (0, 1, 0, 0),
    (EXPIRES, 1, 0, 0),
    (0, 5, 3, 16),  # no padding
    (EXPIRES | MORE, 7, 1, 1),
    (DURABLE, 9, 2, 30),
    (MORE | DURABLE | EXPIRES, 16, 16, 16),
    (0, 200, 100, 0),
]
LARGE_SAMPLES = [(0, 3, 0, SMALL_VALUE_BYTES + 1), (EXPIRES, 10, 5, SMALL_VALUE_BYTES + 100)]


def make(flags, key_size, metadata_size, value_size, *, seed=SEED, version=77):
    expires_at = 1e9 + 0.25 if flags & EXPIRES else 0.0
    parts = NOISE[:key_size], NOISE[5 : 5 + metadata_size], NOISE[9 : 9 + value_size]
    return encode_record(version, PUT, flags, expires_at, *parts, seed)


def assert_refused(data, seed=SEED):
    with pytest.raises(CorruptData):
        decode_record(data, seed)


def with_checksum(data, seed=SEED):
    """Return a record with small value and other fields, but the right checksum for them."""
    return xxh3_64(data[8:], seed).to_bytes(8, "little") + data[8:]


def test_the_header_is_24_bytes_without_a_gap():
    end = 0
    for field, offset, size in layout():
        assert offset == end, field
        end += size
    assert end == 24
    sizes = {field: size for field, _, size in layout()}
    assert sizes["version_and_kind"] == sizes["checksum"] == 8


@pytest.mark.parametrize("kind", [PUT, DELETE])
@pytest.mark.parametrize(
    "flags", [sum(some) for some in itertools.product((0, 1), (0, 4), (0, 8), (0, 16))]
)
@settings(max_examples=25)
@given(
    key=st.binary(min_size=1, max_size=KEY_BYTES_MAX),
    metadata=st.binary(max_size=METADATA_BYTES_MAX),
    size=st.one_of(
        st.integers(0, 100),
        st.integers(SMALL_VALUE_BYTES - 20, SMALL_VALUE_BYTES + 20),
        st.integers(0, len(NOISE)),
    ),
    version=st.integers(1, 2**48 - 1),
    expires_at=st.floats(min_value=1.0, allow_infinity=False),
    seed=st.integers(0, 2**64 - 1),
)
def test_round_trip(kind, flags, key, metadata, size, version, expires_at, seed):
    if kind == DELETE:  # it has nothing but its key
        flags, metadata, size = flags & ~EXPIRES, b"", 0
    value = NOISE[:size]
    data = encode_record(version, kind, flags, expires_at, key, metadata, value, seed)
    is_large = size > SMALL_VALUE_BYTES
    expiry = expires_at if flags & EXPIRES else 0
    bits = flags | LARGE * is_large
    assert decode_record(data, seed) == (version, kind, bits, expiry, key, metadata, value)
    exact = 24 + 8 * bool(flags & EXPIRES) + 8 * is_large + len(key) + len(metadata) + size
    assert len(data) == -(-exact // 16) * 16
    assert not any(data[exact:])
    # A second reader, which knows the format from its description only.
    assert format_reader.decode_record(data, 0, seed)[4:] == (key, metadata, value, len(data))


@pytest.mark.parametrize("key_size", [1, KEY_BYTES_MAX])
@pytest.mark.parametrize("metadata_size", [0, METADATA_BYTES_MAX])
@pytest.mark.parametrize("value_size", [0, SMALL_VALUE_BYTES, SMALL_VALUE_BYTES + 1])
@pytest.mark.parametrize("flags", [0, EXPIRES])
def test_the_smallest_and_the_largest_parts(key_size, metadata_size, value_size, flags):
    data = make(flags, key_size, metadata_size, value_size, version=2**48 - 1)
    found = decode_record(data, SEED)
    assert found[0] == 2**48 - 1
    assert [len(part) for part in found[4:]] == [key_size, metadata_size, value_size]
    assert format_reader.decode_record(data, 0, SEED)[4:7] == found[4:]


def test_the_largest_value():
    value = NOISE[:4096] * (VALUE_BYTES_MAX // 4096)
    data = bytearray(encode_record(1, PUT, 0, 0.0, b"key", b"", value, SEED))
    assert decode_record(bytes(data), SEED)[6] == value
    for at in (40, len(data) // 2, len(data) - 1):
        data[at] ^= 1
        assert_refused(bytes(data))
        data[at] ^= 1
    assert decode_record(bytes(data), SEED)[6] == value


# -- damage


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_change_of_a_byte_is_detected(sample):
    data = make(*sample)
    for at in range(len(data)):
        # Every other value of a byte of the header; one bit and all bits elsewhere.
        masks = range(1, 256) if at < 32 else [1 << bit for bit in range(8)] + [255]
        for mask in masks:
            changed = bytearray(data)
            changed[at] ^= mask
            assert_refused(bytes(changed))


@pytest.mark.parametrize("sample", LARGE_SAMPLES, ids=str)
def test_every_change_of_a_byte_beside_and_in_a_large_value_is_detected(sample):
    data = make(*sample)
    source = random.Random(1)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << source.randrange(8)
        assert_refused(bytes(changed))


@settings(max_examples=200)
@given(data=st.data())
def test_several_changes_at_once_are_detected(data):
    record = bytearray(make(*data.draw(st.sampled_from(SAMPLES + LARGE_SAMPLES))))
    changes = st.dictionaries(st.integers(0, len(record) - 1), st.integers(1, 255), min_size=1)
    for at, mask in data.draw(changes).items():
        record[at] ^= mask
    assert_refused(bytes(record))


@pytest.mark.parametrize("sample", SAMPLES + LARGE_SAMPLES, ids=str)
def test_every_truncation_is_detected(sample):
    data = make(*sample)
    for size in range(len(data)):
        assert_refused(data[:size])
        if any(data[size:]):  # blocks that were never written read as zeros
            assert_refused(data[:size] + bytes(len(data) - size))
    assert_refused(data + bytes(16))
    assert_refused(data + data)


def test_zeros_are_no_record():
    for size in (0, 8, 16, 24, 32, 4096):
        assert_refused(bytes(size), seed=0)


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_random_bytes_are_no_record(data, seed):
    assert_refused(data, seed)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (14, 0),  # kinds
        (14, 3),
        (15, 32),  # flags that no version writes
        (15, 128),
        (15, LARGE),  # a small value with the flag of a large one
        (20, 0),  # no key
    ],
)
def test_fields_that_the_format_does_not_know_are_refused(at, value):
    data = bytearray(make(0, 5, 3, 16))
    assert with_checksum(data) == data
    data[at] = value
    with pytest.raises(CorruptData, match=REASONS[-3][0]):
        decode_record(with_checksum(bytes(data)), SEED)


def test_a_length_that_leads_out_of_the_bytes_is_refused_though_the_checksum_is_right():
    data = bytearray(make(0, 5, 3, 16))
    for at in (17, 21, 23):  # sizes of value, key and metadata: 256 or more bytes more
        longer = bytearray(data)
        longer[at] += 1
        with pytest.raises(CorruptData, match=REASONS[-1][0]):
            decode_record(with_checksum(bytes(longer)), SEED)


# -- the place


@given(st.sampled_from(SAMPLES + LARGE_SAMPLES), st.sets(st.integers(0, 2**64 - 1), min_size=2))
def test_a_record_is_good_under_its_seed_only(sample, seeds):
    first, *others = seeds
    data = make(*sample, seed=first)
    decode_record(data, first)
    for seed in others:
        assert_refused(data, seed)
        assert make(*sample, seed=seed)[:8] != data[:8]


@pytest.mark.parametrize("sample", SAMPLES + LARGE_SAMPLES, ids=str)
def test_a_record_is_not_good_at_any_other_offset_nearby(sample):
    data = make(*sample)
    for offset in range(16, 1 << 16, 16):
        assert_refused(data, SEED + offset)


def test_records_that_changed_places_are_refused(tmp_path):
    """Both are whole and undamaged, but for where they lie."""
    with Store(tmp_path, durability="os") as store:
        store.update([(b"one", b"1" * 50), (b"two", b"2" * 50)])
        store._parts.end_active_segment()
        store.checkpoint()
    file = min(tmp_path.glob("*.log"))
    data = file.read_bytes()
    size = (len(data) - 64) // 2
    file.write_bytes(data[:64] + data[64 + size :] + data[64 : 64 + size])
    with Store(tmp_path, durability="os") as store:
        for key in (b"one", b"two"):
            with pytest.raises(CorruptData):
                store.get(key)
    assert not verify(tmp_path).ok


def test_an_error_says_what_where_and_what_was_expected():
    data = bytearray(make(*LARGE_SAMPLES[0]))
    data[-100] ^= 1
    with pytest.raises(CorruptData, match=r"value checksum in some\.log at byte 640") as caught:
        decode_record(bytes(data), SEED, "some.log", 640)
    assert (caught.value.file, caught.value.offset) == ("some.log", 640)
    data[32] ^= 1  # the key
    with pytest.raises(CorruptData, match="record checksum"):
        decode_record(bytes(data), SEED)
    for code, (what, expected) in REASONS.items():
        error = damage(code, "file", 3, "that")
        assert (error.what, error.expected, error.found) == (what, expected, "that")
