"""The goals of the design, each with what this run saw.

Invariants: a peer counts with the faster of its two settings; a goal that this run cannot judge
says so and is neither a pass nor a miss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.driver import human_ns
from benchmarks.report.lookup import OURS, Lookup


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: what, the limit in words, the value, and whether it must be below or above."""

    what: str
    limit: float
    value: Callable[[Lookup], float | None]
    at_most: bool = True
    unit: str = "x"


def ratio_to(peer: str, ours: str, theirs: str = "") -> Callable[[Lookup], float | None]:
    """Our time over the peer's."""

    def value(found: Lookup) -> float | None:
        mine, other = found.ns(OURS, ours), found.best(peer, theirs or ours)
        return mine / other if mine is not None and other else None

    return value


def times_faster(peer: str, workload: str) -> Callable[[Lookup], float | None]:
    """The peer's time over ours."""

    def value(found: Lookup) -> float | None:
        mine, other = found.ns(OURS, workload), found.best(peer, workload)
        return other / mine if mine and other is not None else None

    return value


def milliseconds(workload: str) -> Callable[[Lookup], float | None]:
    """Our time in milliseconds."""

    def value(found: Lookup) -> float | None:
        time = found.ns(OURS, workload)
        return time / 1e6 if time is not None else None

    return value


def ram_per_key(found: Lookup, label: str = OURS) -> float | None:
    """Anonymous and shared memory that the load added, for each pair."""
    figures = (found.row(label, "fillrandom") or {}).get("figures", {})
    if not figures.get("pairs"):
        return None
    held: float = figures["memory_Pss_Anon"] + figures["memory_Pss_Shmem"]
    return held / float(figures["pairs"])


def ours(workload: str, name: str) -> Callable[[Lookup], float | None]:
    """One of our figures."""

    def value(found: Lookup) -> float | None:
        figure: float | None = found.figure(OURS, workload, name)
        return figure

    return value


GOALS = (
    Goal("get, found, against dict", 0.75, ratio_to("dict", "readrandom")),
    Goal("get, found, faster than lmdb", 3.5, times_faster("lmdb", "readrandom"), False),
    Goal("get, found, faster than rocksdict", 7, times_faster("rocksdict", "readrandom"), False),
    Goal(
        "get_many of 100, a key, against dict's get",
        0.25,
        ratio_to("dict", "multireadrandom", "readrandom"),
    ),
    Goal("get, absent, against dict", 0.7, ratio_to("dict", "readmissing")),
    Goal("put, os, faster than plyvel", 5, times_faster("plyvel", "put"), False),
    Goal("batch load, faster than plyvel", 5, times_faster("plyvel", "fillrandom"), False),
    Goal("put, sync, against pwrite + fdatasync", 1.15, ratio_to("bare file", "fillsync")),
    Goal("16 threads in group, against one", 8, ours("groupcommit", "speedup_of_16"), False),
    Goal("keys(prefix), faster than lmdb", 2, times_faster("lmdb", "keys"), False),
    Goal("open after a clean close", 5, milliseconds("reopen"), unit="ms"),
    Goal("open after kill -9", 400, milliseconds("reopen-killed"), unit="ms"),
    Goal("RAM a key", 13, ram_per_key, unit="B"),
    Goal("space after overwrites (log / live)", 1.4, ours("overwrite", "space_amplification")),
    Goal("device writes / user bytes, overwrites", 1.4, ours("overwrite", "write_amplification")),
)


def goals_table(result: dict[str, Any]) -> str:
    """Markdown; the opens are judged at the size of this run, though the goal is for 10M keys."""
    found = Lookup(result)
    if OURS not in found.engines:
        return "No goals: kvengine was not in this run."
    lines = ["## Goals", "", "| goal | limit | seen | |", "|---|--:|--:|---|"]
    for goal in GOALS:
        value = goal.value(found)
        word, sign = "not measured", "≤" if goal.at_most else "≥"
        seen = ""
        if value is not None:
            met = value <= goal.limit if goal.at_most else value >= goal.limit
            word, seen = "pass" if met else "**miss**", f"{value:.3g} {goal.unit}"
        lines.append(f"| {goal.what} | {sign} {goal.limit:g} {goal.unit} | {seen} | {word} |")
    lines += ["", _remarks(found, result)]
    return "\n".join(lines)


def _remarks(found: Lookup, result: dict[str, Any]) -> str:
    keys = result["options"]["keys"]
    mine, loop = found.ns(OURS, "multireadrandom"), found.best("dict", "multireadrandom")
    text = f"Peers count with the faster of their settings. Opens are of {keys:,} keys."
    if mine and loop:
        text += (
            f" `get_many` is {mine / loop:.2f} x dict's `list(map(get, keys))`"
            f" ({human_ns(mine)} against {human_ns(loop)})."
        )
    return text
