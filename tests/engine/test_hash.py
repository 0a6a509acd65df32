"""XXH3-64 against an independent implementation: the xxhash package."""

import random
from array import array

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from kvengine.engine.index.hash import LOOPS, xxh3_64

SEEDS = (0, 1, 2**32, 2**63 + 12345, 2**64 - 1)
BLOCK_BOUNDARIES = [
    1024 * blocks + difference
    for blocks in (2, 3, 4, 5, 7, 8, 16, 17, 64, 100, 1023, 1024)
    for difference in (-65, -64, -63, -1, 0, 1, 63, 64, 65)
]
NOISE = random.Random(1).randbytes(max(BLOCK_BOUNDARIES) + 64)


def expected(data: bytes | memoryview, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(data, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_short_length(seed: int) -> None:
    for size in range(2049):
        data = NOISE[size : 2 * size]  # other bytes for each length
        assert xxh3_64(data, seed) == expected(data, seed), f"{size} bytes"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_loop_at_every_length_above_240_bytes(seed: int, loop: str) -> None:
    for size in (*range(241, 2049), *BLOCK_BOUNDARIES):
        data = memoryview(NOISE)[:size]
        assert xxh3_64(data, seed, loop=loop) == expected(data, seed), f"{size} bytes"


@pytest.mark.parametrize("size", BLOCK_BOUNDARIES)
def test_around_block_boundaries(size: int) -> None:
    data = memoryview(NOISE)[:size]
    assert xxh3_64(data, 42) == expected(data, 42)


@pytest.mark.parametrize("size", [1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1025])
def test_every_alignment(size: int) -> None:
    for start in range(64):
        data = memoryview(NOISE)[start : start + size]
        assert xxh3_64(data, 7) == expected(data, 7), f"start {start}"


@given(data=st.binary(max_size=3000), seed=st.integers(0, 2**64 - 1))
def test_any_data_and_seed(data: bytes, seed: int) -> None:
    assert xxh3_64(data, seed) == expected(data, seed)
    for loop in LOOPS:
        assert xxh3_64(data, seed, loop=loop) == expected(data, seed)


def test_any_contiguous_buffer_is_hashed_as_its_bytes() -> None:
    words = array("I", [1, 2, 3, 4, 5])
    for data in (words, bytearray(words), memoryview(words), memoryview(words).cast("B")):
        assert xxh3_64(data) == expected(bytes(words), 0)


def test_what_has_no_contiguous_bytes_is_refused() -> None:
    with pytest.raises(TypeError):
        xxh3_64("text")
    with pytest.raises(BufferError):
        xxh3_64(memoryview(b"abcdef")[::2])


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_is_not_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(OverflowError):
        xxh3_64(b"", seed)


def test_an_unknown_loop_is_refused() -> None:
    with pytest.raises(KeyError):
        xxh3_64(bytes(300), loop="magic")
