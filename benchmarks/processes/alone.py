"""Put, get and batch of a process that has a store for itself.

Invariants: engines take turns, so a ratio of two kvengines is the median of ratios of neighbors in
time; both do the same operations in the same order.  The ratio is of CPU time, which a busy machine
disturbs least: alone, in class "os", nobody waits for anything.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.child import ChildFailed
from benchmarks.processes.crew import Crew
from benchmarks.processes.settings import Contender, Say, Settings, label
from benchmarks.report.lookup import OURS

BESIDE = "kvengine beside"
OPERATIONS = ("put", "get", "batch")
Turn = dict[str, dict[str, float]]  # of an operation, the nanoseconds by the clock and of CPU


def alone_on_a_store(
    settings: Settings, crew: Crew, folder: Path, engines: Sequence[Contender], say: Say
) -> dict[str, Any]:
    """Put, get and batch of one process, turn by turn; also of another kvengine if there is one.

    Two that are compared to some percent have processes alike, in which nothing else has run.
    """
    crews = {label(one): (one, crew) for one in engines}
    own = [Crew(settings.task(folder), 1) for folder in (None, settings.beside) if settings.beside]
    if own:
        crews[OURS], crews[BESIDE] = (((OURS, "default"), each) for each in own)
    turns: dict[str, list[Turn]] = {name: [] for name in crews}
    errors: dict[str, str] = {}
    try:
        for turn in range(settings.turns):
            for name, (one, whose) in list(crews.items())[:: 1 if turn % 2 else -1]:
                if name not in errors:
                    try:
                        turns[name].append(_turn(settings, whose, folder / name, one, turn))
                    except ChildFailed as error:
                        errors[name] = str(error)
    finally:
        for each in own:
            each.stop()
    rows = {name: _medians(turns[name], "ns") for name in crews if name not in errors}
    for name, row in rows.items():
        say(f"alone: {name}: " + ", ".join(f"{do} {ns:,.0f} ns" for do, ns in row.items()))
    return {"ns": rows, "errors": errors, "ratios": _ratios(turns)}


def _turn(settings: Settings, crew: Crew, path: Path, contender: Contender, turn: int) -> Turn:
    engine, tuning = contender
    order = {
        "engine": engine,
        "settings": tuning,
        "path": str(path),
        "durability": "os",
        "load": turn == 0,
        "first": 0,
        "count": 0,
    }
    count = settings.operations
    with crew.on([order]):
        first = settings.loaded + turn * 2 * count
        limits = {"operations": count, "first": first, "seconds": settings.seconds / 5}
        (answer,) = crew.ask([{"do": "alone"} | limits])
    return {name: answer[name] for name in OPERATIONS}


def _medians(turns: Sequence[Turn], what: str) -> dict[str, float]:
    return {name: median(turn[name][what] for turn in turns) for name in OPERATIONS}


def _ratios(turns: dict[str, list[Turn]]) -> dict[str, float]:
    """Our CPU time over that of the other kvengine, the median over the turns."""
    pairs = list(zip(turns.get(OURS, []), turns.get(BESIDE, []), strict=False))
    if not pairs:
        return {}
    return {
        name: median(own[name]["cpu_ns"] / old[name]["cpu_ns"] for own, old in pairs)
        for name in OPERATIONS
    }
