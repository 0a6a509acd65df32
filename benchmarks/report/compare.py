"""What changed between two results.

Invariants: a change is called one only when it is above 5 % and the repeats of both runs do not
overlap; runs of different options or machines are compared with a warning.
"""

from typing import Any

from benchmarks.driver import human_ns
from benchmarks.report.lookup import Lookup
from benchmarks.report.tables import markdown

_LEAST = 0.05


def comparison(before: dict[str, Any], after: dict[str, Any], engine: str) -> str:
    """A table for one engine."""
    old, new = Lookup(before), Lookup(after)
    lines = []
    differing = [
        name for name, value in before["options"].items() if after["options"].get(name) != value
    ]
    if differing:
        lines.append(f"The options differ ({', '.join(differing)}): read with care.\n")
    if before["machine"]["cpu"] != after["machine"]["cpu"]:
        lines.append("The machines differ: read with care.\n")
    rows = []
    for workload in old.workloads:
        first, second = old.row(engine, workload), new.row(engine, workload)
        if first and second:
            rows.append(_row(workload, first, second))
    names = [result["machine"]["commit"] or "?" for result in (before, after)]
    lines.append(markdown([engine, *names, "change", ""], rows))
    return "\n".join(lines)


def _row(workload: str, first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    change = second["ns_median"] / first["ns_median"] - 1
    apart = min(second["ns_all"]) > max(first["ns_all"]) or max(second["ns_all"]) < min(
        first["ns_all"]
    )
    word = ""
    if abs(change) > _LEAST and apart:
        word = "slower" if change > 0 else "faster"
    times = [human_ns(row["ns_median"]) for row in (first, second)]
    return [workload, *times, f"{change:+.1%}", word]
