"""A key run holds the keys that were written to it, in order; a changed byte is noticed."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import CorruptData, KvError
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.order.key_run import KeyRun, RunWriter
from kvengine.file.memory import MemoryDirectory

UUID = bytes(range(16))
BLOCK = 4096
sorted_keys = st.lists(
    st.binary(min_size=1, max_size=40) | st.binary(min_size=1020, max_size=1024),
    unique=True,
    max_size=120,
).map(sorted)


def write(keys, directory=None):
    """Return the bytes of a run; the address of each key is its number."""
    directory = directory or MemoryDirectory()
    output = directory.create("00000001.keys")
    writer = RunWriter(output)
    for number, key in enumerate(keys):
        writer.add_key(key, number)
    header = writer.finish(UUID, 77, 5)
    output.close()
    assert writer.count == len(keys)
    return header + directory.read("00000001.keys")[BLOCK:]


def opened(data):
    directory = MemoryDirectory()
    output = directory.create("00000001.keys")
    output.write(data)
    output.close()
    return KeyRun(
        directory.open("00000001.keys", map_bytes=max(len(data), 1)), "00000001.keys", UUID
    )


def entries(data):
    """Return the (key, address) pairs of a run, read as FORMAT.md says."""
    found = []
    for number in range(1, len(data) // BLOCK):
        block = data[number * BLOCK : (number + 1) * BLOCK]
        checksum, count, zero = struct.unpack_from("<QHH", block)
        assert (checksum, zero) == (xxh3_64(block[8:], number - 1), 0)
        for place in struct.unpack_from(f"<{count}H", block, 12):
            (size,) = struct.unpack_from("<H", block, place)
            address = int.from_bytes(block[place + 2 : place + 7], "little")
            found.append((block[place + 7 : place + 7 + size], address))
    return found


@given(sorted_keys)
def test_keys_come_back_in_order(keys):
    data = write(keys)
    assert entries(data) == list(zip(keys, range(len(keys)), strict=True))
    run = opened(data)
    assert (run.count, run.segment_limit, run.removals_mark) == (len(keys), 77, 5)
    assert run.problems() == []


@pytest.mark.parametrize("size", [1, 8, 100, 1023, 1024])
def test_blocks_are_filled(size):
    keys = sorted({number.to_bytes(2, "big").rjust(size, b"x")[-size:] for number in range(256)})
    data = write(keys)
    assert [key for key, _ in entries(data)] == keys
    wanted = len(keys) * (size + 9)
    assert len(data) <= 2 * BLOCK + wanted * 1.35


@pytest.fixture(scope="module")
def sample():
    return write([b"key %04d" % number * 3 for number in range(300)])


def test_every_changed_byte_is_noticed(sample):
    assert opened(sample).problems() == []
    assert len(sample) >= 3 * BLOCK
    for at in range(len(sample)):
        changed = bytearray(sample)
        changed[at] ^= 1 << at % 8
        if at < BLOCK:
            with pytest.raises(CorruptData, match=r"00000001\.keys"):
                opened(changed)
        elif at % 7 == 0:
            (problem,) = opened(changed).problems()
            assert problem.offset == at // BLOCK * BLOCK


def test_every_truncation_is_noticed(sample):
    for size in [*range(200), *range(200, len(sample), 97), len(sample) - 1]:
        with pytest.raises(CorruptData, match=r"00000001\.keys"):
            opened(sample[:size])
    with pytest.raises(CorruptData):
        opened(sample + bytes(BLOCK))


def test_blocks_that_changed_places_are_noticed(sample):
    first, second = sample[BLOCK : 2 * BLOCK], sample[2 * BLOCK : 3 * BLOCK]
    swapped = sample[:BLOCK] + second + first + sample[3 * BLOCK :]
    assert len(opened(swapped).problems()) == 2


def test_a_run_of_another_store_is_refused(sample):
    body = bytearray(sample[8:BLOCK])
    body[16] ^= 1  # of the uuid
    with pytest.raises(CorruptData):
        opened(struct.pack("<Q", xxh3_64(bytes(body))) + body + sample[BLOCK:])


@given(st.binary(min_size=BLOCK - 8, max_size=BLOCK - 8) | st.data())
@settings(max_examples=200)
def test_a_right_checksum_does_not_make_a_block_sound(rest):
    """Counts, places and sizes that lead outside are noticed even if the checksum is right."""
    if not isinstance(rest, bytes):
        count = rest.draw(st.integers(0, 2050))
        numbers = st.sampled_from([0, 1, 11, 12, 13, 4088, 4089, 4090, 4095, 4096, 65535])
        places = rest.draw(st.lists(numbers, max_size=12))
        start = struct.pack("<HH", count, 0) + b"".join(struct.pack("<H", n) for n in places)
        rest = (start * 200).ljust(BLOCK - 8, b"\0")[: BLOCK - 8]
    block = struct.pack("<Q", xxh3_64(rest, 0)) + rest
    header = write([b"k"])[:BLOCK]
    run = opened(header + block)
    problems = run.problems()
    assert problems == [] or isinstance(problems[0], KvError)
    if not problems:  # then all that it holds lies inside
        assert all(0 < len(key) <= BLOCK for key, _ in entries(header + block))
