"""The counters of an edge, and how long changes took to reach it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

BUCKETS_PER_DOUBLING = 8  # quantiles are exact to 9 %
SMALLEST_S = 1e-6


class Histogram:
    """Durations, in buckets of equal ratio.

    >>> times = Histogram()
    >>> for ms in range(1, 101):
    ...     times.add(ms / 1000)
    >>> 0.045 < times.quantile(0.5) < 0.055
    True

    Thread-safety: under the lock of its owner; reading needs none.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count, self.total, self.longest = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """Count a duration, in seconds."""
        seconds = max(seconds, 0.0)
        bucket = int(math.log2(max(seconds, SMALLEST_S) / SMALLEST_S) * BUCKETS_PER_DOUBLING)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def quantile(self, share: float) -> float:
        """Return a quantile, in seconds; 0.0 if there are no values."""
        wanted, seen = share * self.count, 0
        for bucket, count in sorted(self._buckets.items()):
            seen += count
            if seen >= wanted:
                middle = SMALLEST_S * 2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING)
                return min(middle, self.longest)
        return 0.0

    def __repr__(self) -> str:
        p50, p99 = self.quantile(0.5), self.quantile(0.99)
        return (
            f"<{self.count} times, p50 {p50:.6f} s, p99 {p99:.6f} s, longest {self.longest:.6f} s>"
        )

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.count += other.count
        self.total += other.total
        self.longest = max(self.longest, other.longest)


@dataclass(slots=True)
class Counters:
    """Counts of an edge since it began.

    Reads are `memory_hits + disk_hits + misses + revalidations + stale + errors`; a read that
    waits for another one's request counts as a miss too.
    """

    memory_hits: int = 0
    disk_hits: int = 0
    misses: int = 0  # nothing was cached
    revalidations: int = 0  # the copy was too old
    stale: int = 0  # answered with a stale copy because the upstream did not answer
    errors: int = 0  # not answered
    refused: int = 0  # of the last two, without a request, because the breaker was open
    requests: int = 0  # keys requested from the upstream
    refreshes: int = 0  # of these, in the background
    unchanged: int = 0  # of these, answered without the value
    retries: int = 0  # of these, repeated because the answer was too old
    writes: int = 0
    invalidations: int = 0  # copies dropped because their key has changed
    pushed: int = 0  # copies replaced by the new value, which came with the change
    read_late: int = 0  # of those two, copies that were read after the change was made
    changes: int = 0  # changes received
    duplicates: int = 0  # changes received again
    gaps: int = 0  # batches refused because earlier changes are missing
    resets: int = 0  # how often changes were gone
    propagation: Histogram = field(default_factory=Histogram)

    @property
    def reads(self) -> int:
        """The number of keys that were read."""
        answered = self.memory_hits + self.disk_hits + self.misses + self.revalidations
        return answered + self.stale + self.errors

    @property
    def hit_ratio(self) -> float:
        """The share of reads that needed no request to the upstream."""
        return (self.memory_hits + self.disk_hits) / self.reads if self.reads else 0.0

    def add(self, other: Counters) -> None:
        """Add the counts of another edge."""
        for one in fields(self):
            if one.name == "propagation":
                self.propagation.merge(other.propagation)
            else:
                setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
