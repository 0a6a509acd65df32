"""Keys and values of a benchmark, made from numbers.

Invariants:
* The same number and seed give the same key and value in every process.
* Each call gives fresh ``bytes`` objects: no cached hash, no address the store has seen.
* A key that is never stored lies between two that are, so that no engine can refuse it by range.
* Values do not compress, except for the part asked for: with 0.5 a value is its first half twice,
  as in db_bench.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]
_POOL_BYTES = 1 << 20  # as db_bench: larger than any compression window that is in use here


def mixed(numbers: Numbers) -> Numbers:
    """A one-to-one scramble of 64-bit numbers (the finalizer of splitmix64)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Permutation:
    """A shuffle of ``range(count)`` that needs no memory: a small Feistel network.

    Numbers that leave the range are sent through again until they are back inside.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self._half_bits = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
        self._mask = np.uint64((1 << self._half_bits) - 1)
        self._seeds = [
            np.uint64((seed * 4 + turn + 1) * 0x9E3779B97F4A7C15 % 2**64) for turn in range(4)
        ]

    def at(self, positions: npt.ArrayLike) -> Numbers:
        """The numbers at these positions of the shuffled range."""
        result = self._once(np.asarray(positions, dtype=np.uint64))
        while True:
            outside = result >= np.uint64(self.count)
            if not outside.any():
                return result
            result[outside] = self._once(result[outside])

    def _once(self, numbers: Numbers) -> Numbers:
        shift = np.uint64(self._half_bits)
        left, right = numbers >> shift, numbers & self._mask
        for seed in self._seeds:
            left, right = right, left ^ (mixed(right ^ seed) & self._mask)
        return (left << shift) | right


class KeySpace:
    """The keys and values of one store."""

    def __init__(
        self,
        count: int,
        *,
        key_bytes: int = 16,
        value_bytes: int = 100,
        kind: str = "decimal",
        compressible: float = 0.0,
        seed: int = 1,
        name: bytes = b"",
    ) -> None:
        digits = key_bytes - len(name)
        least = 16 if kind == "hashed" else len(str(4 * count))
        if digits < least:
            raise ValueError(f"{kind} keys of {count} need {least + len(name)} bytes at least")
        self.count, self.value_bytes = count, value_bytes
        self.order = Permutation(count, seed)
        self._hashed = kind == "hashed"
        self._template = name + b"%0" + str(digits).encode() + (b"x" if self._hashed else b"d")
        self._pool = np.random.default_rng(seed).bytes(2 * _POOL_BYTES)
        self._compressible = compressible
        # A listing by prefix should find some thousands of keys.
        self._prefix_bytes = key_bytes - 4
        if self._hashed:
            depth = max(0, int(np.log2(max(count / 4096, 1)) / 4))
            self._prefix_bytes = key_bytes - 16 + depth

    def keys(self, numbers: npt.ArrayLike) -> list[bytes]:
        """The keys of these numbers; they are stored ones."""
        return self._made(np.asarray(numbers, dtype=np.uint64) * np.uint64(2))

    def absent_keys(self, numbers: npt.ArrayLike) -> list[bytes]:
        """Keys that nobody stores, each beside the key of that number."""
        return self._made(np.asarray(numbers, dtype=np.uint64) * np.uint64(2) + np.uint64(1))

    def prefixes(self, numbers: npt.ArrayLike) -> list[bytes]:
        """Prefixes that cover the keys of these numbers and some thousands of their neighbors."""
        return [key[: self._prefix_bytes] for key in self.keys(numbers)]

    def values(self, numbers: npt.ArrayLike, generation: int = 0) -> list[bytes]:
        """The values of these numbers after ``generation`` overwrites."""
        numbers = np.asarray(numbers, dtype=np.uint64)
        return self.sized_values(numbers, [self.value_bytes] * len(numbers), generation)

    def sized_values(
        self, numbers: npt.ArrayLike, sizes: Iterable[int], generation: int = 0
    ) -> list[bytes]:
        """Values of given sizes."""
        numbers = np.asarray(numbers, dtype=np.uint64)
        salt = np.uint64(generation * 0x632BE59BD9B4E019 % 2**64)
        scattered = mixed(numbers + salt)
        starts = (scattered % np.uint64(_POOL_BYTES)).tolist()
        pool, fresh_part = self._pool, 1 - self._compressible
        if max(sizes := list(sizes), default=0) > len(pool) - _POOL_BYTES:
            pool = self._pool = pool * (2 + max(sizes) // len(pool))
        if fresh_part == 1:
            return [pool[at : at + size] for at, size in zip(starts, sizes, strict=True)]
        values = []
        for at, size in zip(starts, sizes, strict=True):
            fresh = pool[at : at + max(1, round(size * fresh_part))]
            values.append((fresh * (size // len(fresh) + 1))[:size])
        return values

    def pairs(self, numbers: npt.ArrayLike, generation: int = 0) -> list[tuple[bytes, bytes]]:
        """Keys with their values."""
        return list(zip(self.keys(numbers), self.values(numbers, generation), strict=True))

    def _made(self, numbers: Numbers) -> list[bytes]:
        template = self._template
        if self._hashed:
            numbers = mixed(numbers)
        return [template % number for number in numbers.tolist()]
