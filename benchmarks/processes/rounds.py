"""Puts and gets of several processes at once.

Invariants: engines take turns, round by round, so that a noisy minute hits all alike; a round
counts only if every process sees the last pair that each of the others put.  Before a round that
syncs, what earlier ones left in memory is on the disk.
"""

import os
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.child import ChildFailed
from benchmarks.processes.crew import Crew
from benchmarks.processes.settings import Contender, Say, Settings, Stores, label

CLASSES = ("os", "group")


def rounds(
    settings: Settings, crew: Crew, stores: Stores, engines: Sequence[Contender], say: Say
) -> list[dict[str, Any]]:
    """Puts in both classes, and gets, from 1, 2, 4 and 8 processes at once."""
    rows = []
    for kind in CLASSES:
        for processes in settings.processes:
            found: dict[Contender, list[dict[str, Any]]] = {one: [] for one in engines}
            for repeat in range(settings.repeats):
                for one, earlier in found.items():
                    if not any("error" in round_ for round_ in earlier):
                        orders = stores.orders(one, kind, processes, repeat)
                        earlier.append(_round(settings, crew, kind, orders))
            stores.clear()
            for one, several in found.items():
                about = {"engine": label(one), "class": kind, "processes": processes}
                rows += [about | row for row in _summary(several)]
            shown = [f"{row['engine']} {row.get('per_s', 0):,.0f}" for row in _last(rows, found)]
            say(f"puts a second, {kind}, {processes} processes: " + ", ".join(shown))
    return rows


def _last(rows: list[dict[str, Any]], found: dict[Contender, Any]) -> list[dict[str, Any]]:
    names = {label(one) for one in found}
    last = rows[-1]
    same = [row for row in rows if all(row[key] == last[key] for key in ("class", "processes"))]
    return [row for row in same if row["engine"] in names and row["do"] == "put"]


def _round(
    settings: Settings, crew: Crew, kind: str, orders: list[dict[str, Any]]
) -> dict[str, Any]:
    """One repeat: the answers of all processes to put, and in class "os" to get."""
    try:
        with crew.on(orders):
            if kind == "group":
                os.sync()
            task = {"do": "put", "seconds": settings.seconds}
            puts = crew.together([task] * len(orders))
            last = [answer["last"] for answer in puts if answer["operations"]]
            for answer in crew.ask([{"do": "check", "keys": last}] * len(orders)):
                if answer["missing"]:
                    raise ChildFailed("a put that was acknowledged is not seen")
            if kind != "os":
                return {"put": puts}
            gets = crew.together([task | {"do": "get"}] * len(orders))
            if any(answer["missing"] for answer in gets):
                raise ChildFailed("a loaded key is missing")
            return {"put": puts, "get": gets}
    except ChildFailed as error:
        return {"error": str(error)}


def _summary(several: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the repeats, a row for puts and one for gets."""
    errors = [round_["error"] for round_ in several if "error" in round_]
    if errors:
        return [{"do": "put", "error": errors[0]}]
    rows = []
    for do in several[0]:
        rates = [
            sum(answer["operations"] for answer in round_[do])
            / max(answer["seconds"] for answer in round_[do])
            for round_ in several
        ]
        answers = [answer for round_ in several for answer in round_[do]]
        counts = [[answer["operations"] for answer in round_[do]] for round_ in several]
        rows.append(
            {
                "do": do,
                "per_s": median(rates),
                "all": rates,
                "least_share": median(min(one) * len(one) / sum(one) for one in counts),
                "latencies_ns": _latencies(answers),
            }
        )
    return rows


def _latencies(answers: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Medians over the processes, and the longest of all."""
    all_of = [answer["latencies_ns"] for answer in answers]
    middle = {name: median(one[name] for one in all_of) for name in ("p50", "p99", "p99.9")}
    return middle | {"max": max(one["max"] for one in all_of)}
