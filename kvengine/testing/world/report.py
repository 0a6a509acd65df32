"""The figures of a world that has run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvengine.edge.counters import Counters, Histogram
from kvengine.testing.world.checker import Violation

AT_ONCE_S = 2e-6  # the smallest bucket of a histogram
ABOUT_CHANGES = (
    "a change was at an edge after",
    "stale reads",
    "of reads within the bound after a write",
)


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a run.

    Times are in seconds of the world; `violations` is empty if every promise was kept.
    """

    seed: int
    seconds: float
    edges: int
    region_count: int
    keys: int  # at the primary, at the end
    reads: int
    writes: int
    failed_reads: int
    failed_writes: int
    leaves: Counters  # of the edges that were read
    regions: Counters  # of the edges between them and the primary
    upstream_reads: int  # keys that the primary was asked for
    primary_bytes: int  # that the primary has sent, about
    messages: int
    message_bytes: int
    lost_messages: int
    reads_after_write: int  # within the bound after their key changed
    stale_after_write: int
    staleness: Histogram  # seconds by which stale reads were behind
    latency: Histogram  # of reads
    propagation: Histogram  # how long changes took to reach an edge or region
    checked: int  # reads held against the promises
    violations: list[Violation] = field(default_factory=list)

    @property
    def hit_ratio(self) -> float:
        """The share of reads that were answered at the edge."""
        return self.leaves.hit_ratio

    @property
    def primary_share(self) -> float:
        """The share of reads that came to the primary."""
        return self.upstream_reads / self.reads if self.reads else 0.0

    @property
    def stale_reads(self) -> int:
        """How many reads did not show the newest value there was when they began."""
        return self.staleness.count

    def figures(self) -> dict[str, Any]:
        """Return everything as plain figures, for JSON; times in seconds, ratios 0 to 1."""
        leaves = self.leaves
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 6),
            "edges": self.edges,
            "regions": self.region_count,
            "keys": self.keys,
            "reads": self.reads,
            "failed_reads": self.failed_reads,
            "writes": self.writes,
            "failed_writes": self.failed_writes,
            "hit_ratio": {
                "memory": _share(leaves.memory_hits, leaves.reads),
                "disk": _share(leaves.disk_hits, leaves.reads),
                "edges": self.hit_ratio,
                "regions": self.regions.hit_ratio,
            },
            "primary": {
                "reads": self.upstream_reads,
                "reads_per_s": _share(self.upstream_reads, self.seconds),
                "share": self.primary_share,
                "bytes": self.primary_bytes,
            },
            "latency": _times(self.latency),
            "propagation": _times(self.propagation),
            "stale": {
                "reads": self.stale_reads,
                "behind": _times(self.staleness),
                "share_after_write": _share(self.stale_after_write, self.reads_after_write),
            },
            "messages": self.messages,
            "message_bytes": self.message_bytes,
            "lost_messages": self.lost_messages,
            "checked": self.checked,
            "violations": len(self.violations),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know: names and texts."""
        found, leaves = self.figures(), self.leaves
        stale = found["stale"]
        rows = [
            ("virtual time", f"{self.seconds:,.0f} s, seed {self.seed}"),
            ("nodes", f"{self.edges:,} edges, {self.region_count:,} regions, a primary"),
            ("reads", f"{self.reads:,} ({self.failed_reads:,} not answered)"),
            ("writes", f"{self.writes:,} ({self.failed_writes:,} not acknowledged)"),
            ("hits at edges", f"{100 * self.hit_ratio:.2f} %"),
            ("hits at regions", f"{100 * self.regions.hit_ratio:.2f} % of what came there"),
            ("reads that came to the primary", f"{100 * self.primary_share:.3f} %"),
            ("load of the primary", f"{found['primary']['reads_per_s']:,.1f} reads/s"),
            ("sent by the primary", f"{self.primary_bytes / 1e6:,.1f} MB"),
            ("a read took", quantiles(self.latency)),
            ("a change was at an edge after", quantiles(self.propagation)),
            ("stale reads", f"{self.stale_reads:,}, behind by {quantiles(self.staleness)}"),
            (
                "of reads within the bound after a write",
                f"{100 * stale['share_after_write']:.4f} %",
            ),
            ("messages", f"{self.messages:,} ({self.lost_messages:,} lost)"),
            ("promises broken", f"{len(self.violations):,} in {self.checked:,} reads"),
        ]
        if not self.region_count:
            rows.remove(next(row for row in rows if row[0] == "hits at regions"))
        if not self.propagation.count:
            rows = [row for row in rows if row[0] not in ABOUT_CHANGES]
        if leaves.disk_hits:
            share = f"{100 * _share(leaves.disk_hits, leaves.reads):.2f} %"
            rows.insert(5, ("of these from disk", share))
        return rows

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {text}" for name, text in rows]
        return "\n".join(lines + [f"  {violation}" for violation in self.violations[:5]])


def quantiles(times: Histogram) -> str:
    """Return the figures of a histogram that matter."""
    p50, p99 = times.quantile(0.5), times.quantile(0.99)
    return f"p50 {_ms(p50)}, p99 {_ms(p99)}, max {_ms(times.longest)}"


def _times(times: Histogram) -> dict[str, float]:
    found = {"p50": times.quantile(0.5), "p99": times.quantile(0.99), "max": times.longest}
    return {name: round(seconds, 6) for name, seconds in found.items()}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _ms(seconds: float) -> str:
    if seconds < AT_ONCE_S:
        return "0 ms"
    return f"{seconds * 1000:,.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"
