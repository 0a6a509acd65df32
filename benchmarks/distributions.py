"""Which key comes next: uniform, Zipf, and the variants of Zipf that YCSB defines.

Invariants: every distribution gives numbers in ``range(count)``, many at once, from a seeded
generator.

Three kinds of skew, which differ much and are often confused:

* ``Zipfian(n)``: rank r has weight 1 / (r + 1)^0.99 over the n keys that exist.  The hottest key
  of a million gets about 7 % of all requests.
* ``ScrambledZipfian(n)``: what YCSB's workloads A, B, C, E and F really use.  Ranks are drawn over
  10^10 items with a fixed zeta, then hashed with FNV-1a onto n keys.  Hot keys are scattered, and
  the head is flatter: the hottest key gets about 3.8 %.
* ``Latest(n)``: workload D.  Zipfian over the distance from the newest key.
"""

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.int64]
YCSB_THETA = 0.99
YCSB_ITEMS = 10_000_000_000
YCSB_ZETA = 26.46902820178302  # zeta(YCSB_ITEMS, YCSB_THETA), as ScrambledZipfianGenerator has it


def zeta(count: int, theta: float) -> float:
    """The sum of 1 / i^theta for i in 1..count."""
    total, step = 0.0, 1 << 22
    for low in range(1, count + 1, step):
        high = min(low + step, count + 1)
        total += float((np.arange(low, high, dtype=np.float64) ** -theta).sum())
    return total


class Zipfian:
    """Ranks by Gray's method, which is the one of YCSB's ZipfianGenerator."""

    def __init__(
        self, count: int, theta: float = YCSB_THETA, zeta_of_count: float | None = None
    ) -> None:
        self.count, self.theta = max(count, 2), theta
        self._zeta = zeta_of_count or zeta(self.count, theta)
        self._alpha = 1 / (1 - theta)
        first_two = zeta(2, theta)
        self._eta = (1 - (2 / self.count) ** (1 - theta)) / (1 - first_two / self._zeta)

    def draw(self, generator: np.random.Generator, size: int) -> Ranks:
        """``size`` ranks; 0 is the most popular."""
        u = generator.random(size)
        scaled = u * self._zeta
        ranks = (self.count * (self._eta * u - self._eta + 1) ** self._alpha).astype(np.int64)
        ranks[scaled < 1 + 0.5**self.theta] = 1
        ranks[scaled < 1] = 0
        return np.asarray(np.minimum(ranks, self.count - 1), dtype=np.int64)


class ScrambledZipfian:
    """YCSB's scrambled variant: ranks of 10^10 items, hashed onto the keys."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._ranks = Zipfian(YCSB_ITEMS, YCSB_THETA, YCSB_ZETA)

    def draw(self, generator: np.random.Generator, size: int) -> Ranks:
        """``size`` numbers in ``range(count)``."""
        return fnv_64(self._ranks.draw(generator, size)) % self.count


class Latest:
    """YCSB's SkewedLatestGenerator: the newest of ``count`` keys is the most popular."""

    def __init__(self, count: int) -> None:
        self._distances = Zipfian(count)

    def draw(self, generator: np.random.Generator, size: int, newest: int) -> Ranks:
        """``size`` numbers in ``range(newest + 1)``."""
        return np.maximum(newest - self._distances.draw(generator, size), 0)


def fnv_64(numbers: Ranks) -> Ranks:
    """YCSB's ``Utils.fnvhash64``: FNV-1a over eight bytes, low one first; then its absolute."""
    rest = numbers.astype(np.uint64)
    result = np.full(len(rest), 0xCBF29CE484222325, dtype=np.uint64)
    for _ in range(8):
        result = (result ^ (rest & np.uint64(0xFF))) * np.uint64(1099511628211)
        rest = rest >> np.uint64(8)
    absolute = np.abs(result.astype(np.int64))
    return np.asarray(absolute, dtype=np.int64)
