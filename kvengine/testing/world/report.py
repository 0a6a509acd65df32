"""What a world tells when it was run."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvengine.testing.world.checker import Violation
from kvengine.tier.counters import Counters, Histogram


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a run.

    Times are in seconds of the world; `violations` is empty if every promise was kept.
    """

    seconds: float
    locations: int
    reads: int
    writes: int
    failed_reads: int
    failed_writes: int
    leaves: Counters  # of the locations that were read
    regions: Counters  # of the tier between them and the center
    upstream_reads: int  # keys that the center was asked for
    messages: int
    lost_messages: int
    stale_reads: int
    reads_after_write: int  # within the bound after their key changed
    stale_after_write: int
    worst_age: float
    latency: Histogram  # of reads
    spread: Histogram  # how long changes took to reach a location or region
    violations: list[Violation] = field(default_factory=list)

    @property
    def hit_ratio(self) -> float:
        """The share of reads that were answered at the location."""
        return self.leaves.hit_ratio

    @property
    def center_share(self) -> float:
        """The share of reads that came to the center."""
        return self.upstream_reads / self.reads if self.reads else 0.0

    def __str__(self) -> str:
        spread = self.spread
        late = 100 * self.stale_after_write / max(1, self.reads_after_write)
        rows = [
            ("virtual time", f"{self.seconds:,.0f} s"),
            ("locations", f"{self.locations:,}"),
            ("reads", f"{self.reads:,} ({self.failed_reads:,} not answered)"),
            ("writes", f"{self.writes:,} ({self.failed_writes:,} not acknowledged)"),
            ("hits at locations", f"{100 * self.hit_ratio:.2f} %"),
            ("hits at regions", f"{100 * self.regions.hit_ratio:.2f} %"),
            ("reads that came to the center", f"{100 * self.center_share:.3f} %"),
            ("latency of reads", quantiles(self.latency)),
            (
                "a change at a location after",
                quantiles(spread),
            ),
            ("stale reads", f"{self.stale_reads:,}, the worst {self.worst_age:.3f} s behind"),
            ("stale of reads within the bound after a write", f"{late:.4f} %"),
            ("messages", f"{self.messages:,} ({self.lost_messages:,} lost)"),
            ("promises broken", f"{len(self.violations):,}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def quantiles(times: Histogram) -> str:
    """Return the figures of a histogram that matter."""
    p50, p99 = times.quantile(0.5), times.quantile(0.99)
    return f"p50 {_ms(p50)}, p99 {_ms(p99)}, longest {_ms(times.longest)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
