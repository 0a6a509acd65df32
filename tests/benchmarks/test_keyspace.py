"""Keys, values and distributions of the benchmarks are what they claim to be."""

import zlib

import pytest

np = pytest.importorskip("numpy")

from benchmarks.distributions import (  # noqa: E402
    Latest,
    ScrambledZipfian,
    Zipfian,
    fnv_64,
    zeta,
)
from benchmarks.keyspace import KeySpace, Permutation  # noqa: E402
from benchmarks.workloads.mixgraph import KeyChoice, pareto  # noqa: E402


@pytest.mark.parametrize("count", [1, 2, 3, 100, 4097])
def test_a_permutation_gives_every_number_once(count):
    shuffled = Permutation(count, seed=3).at(np.arange(count)).tolist()
    assert sorted(shuffled) == list(range(count))


def test_a_permutation_shuffles():
    assert Permutation(1000, 1).at(np.arange(1000)).tolist() != list(range(1000))


@pytest.mark.parametrize("kind", ["decimal", "hashed"])
def test_keys_have_their_size_and_are_new_objects(kind):
    space = KeySpace(1000, key_bytes=16, kind=kind)
    first, second = space.keys(np.arange(1000)), space.keys(np.arange(1000))
    assert first == second
    assert len(set(first)) == 1000
    assert {len(key) for key in first} == {16}
    assert all(one is not two for one, two in zip(first, second, strict=True))


def test_absent_keys_lie_between_stored_ones():
    space = KeySpace(100)
    stored, absent = space.keys(np.arange(100)), space.absent_keys(np.arange(100))
    assert not set(stored) & set(absent)
    assert all(low < key for low, key in zip(stored, absent, strict=True))
    assert all(key < high for key, high in zip(absent, stored[1:], strict=False))


def test_a_prefix_covers_its_key():
    space = KeySpace(50_000)
    numbers = np.array([0, 777, 49_999])
    for key, prefix in zip(space.keys(numbers), space.prefixes(numbers), strict=True):
        assert key.startswith(prefix)
        assert len(prefix) < len(key)


def test_a_key_that_would_not_fit_is_refused():
    with pytest.raises(ValueError, match="need"):
        KeySpace(10_000_000, key_bytes=4)


@pytest.mark.parametrize(("compressible", "low", "high"), [(0.0, 0.99, 1.1), (0.5, 0.4, 0.65)])
def test_values_compress_as_asked(compressible, low, high):
    space = KeySpace(1000, compressible=compressible)
    values = space.values(np.arange(40))
    assert {len(value) for value in values} == {100}
    block = b"".join(values)
    ratio = len(zlib.compress(block)) / len(block)
    assert low < ratio < high


def test_an_overwrite_changes_the_value():
    space = KeySpace(100)
    numbers = np.arange(100)
    old, new = space.values(numbers), space.values(numbers, 1)
    assert old == space.values(numbers)
    assert all(one != two for one, two in zip(old, new, strict=True))


def test_fnv_is_that_of_ycsb():
    # FNV-1a over eight bytes in little-endian order, in plain integers.
    def by_hand(number):
        value = 0xCBF29CE484222325
        for byte in number.to_bytes(8, "little"):
            value = (value ^ byte) * 1099511628211 % 2**64
        return abs(value - 2**64 if value >= 2**63 else value)

    numbers = [0, 1, 255, 10_000_000_000]
    assert fnv_64(np.array(numbers)).tolist() == [by_hand(number) for number in numbers]


def test_zipf_gives_the_first_rank_its_share():
    ranks = Zipfian(1000).draw(np.random.default_rng(1), 100_000)
    assert ranks.min() == 0
    assert ranks.max() < 1000
    share = float((ranks == 0).mean())
    assert share == pytest.approx(1 / zeta(1000, 0.99), rel=0.05)


def test_scrambled_zipf_is_flatter_and_stays_in_range():
    generator = np.random.default_rng(1)
    numbers = ScrambledZipfian(1000).draw(generator, 50_000)
    assert 0 <= numbers.min() <= numbers.max() < 1000
    top = np.bincount(numbers).max() / 50_000
    assert 0.03 < top < 1 / zeta(1000, 0.99)


def test_latest_prefers_the_newest():
    numbers = Latest(1000).draw(np.random.default_rng(1), 10_000, newest=999)
    assert 0 <= numbers.min() <= numbers.max() == 999
    assert np.bincount(numbers).argmax() == 999


def test_mixgraph_keys_are_skewed_and_in_range():
    numbers = KeyChoice(30_000, seed=1).draw(np.random.default_rng(1), 50_000)
    assert numbers.max() < 30_000
    assert np.bincount(numbers.astype(np.int64)).max() > 10 * 50_000 / 30_000


def test_pareto_has_the_published_mean():
    sizes = pareto(np.random.default_rng(1).random(200_000), 0.2615, 25.45)
    assert sizes.mean() == pytest.approx(25.45 / (1 - 0.2615), rel=0.05)
