"""Finding figures in a result.

Invariants: a figure that was not measured is ``None``; nothing is guessed.
"""

from typing import Any

OURS = "kvengine"


class Lookup:
    """The results of a run by engine and workload."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.engines: list[str] = result["engines"]
        self.workloads: dict[str, str] = result["workloads"]
        self._rows = {(row["engine"], row["workload"]): row for row in result["results"]}

    def row(self, engine: str, workload: str) -> dict[str, Any] | None:
        """All that is known, unless it failed or was not run."""
        row = self._rows.get((engine, workload))
        return None if row is None or "error" in row else row

    def error(self, engine: str, workload: str) -> str | None:
        """Why there is no figure."""
        error: str | None = self._rows.get((engine, workload), {}).get("error")
        return error

    def ns(self, engine: str, workload: str) -> float | None:
        """Median nanoseconds an operation."""
        row = self.row(engine, workload)
        return float(row["ns_median"]) if row else None

    def figure(self, engine: str, workload: str, name: str) -> Any:
        """One of the further figures."""
        row = self.row(engine, workload)
        return row["figures"].get(name) if row else None

    def best(self, peer: str, workload: str) -> float | None:
        """The smaller time of a peer's settings."""
        times = [self.ns(label, workload) for label in self.labels(peer)]
        return min((time for time in times if time is not None), default=None)

    def best_label(self, peer: str, workload: str) -> str | None:
        """The settings of a peer that were faster."""
        timed = [(self.ns(label, workload), label) for label in self.labels(peer)]
        return min(((ns, label) for ns, label in timed if ns is not None), default=(0, None))[1]

    def labels(self, peer: str) -> list[str]:
        """The labels of a peer, default and tuned."""
        return [label for label in self.engines if label in (peer, f"{peer} tuned")]

    def peers(self) -> list[str]:
        """Engines without their settings, in order, ours first."""
        names = list(dict.fromkeys(label.removesuffix(" tuned") for label in self.engines))
        return sorted(names, key=lambda name: name != OURS)
