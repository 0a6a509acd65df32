"""A get beside three processes that write.

Invariants: it is judged by its CPU time and by the median of single calls, neither of which says
how many CPUs the machine has; the writers begin with the reader and end after it.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.child import ChildFailed
from benchmarks.processes.crew import Crew
from benchmarks.processes.settings import WRITERS, Contender, Say, Settings, Stores, label

LIMITED_PER_S = 17_000  # puts of the writers together: 2 MB/s, as db_bench does beside a reader
MODES = {"quiet": None, "2 MB/s": LIMITED_PER_S / WRITERS, "full speed": 0}


def beside_writers(
    settings: Settings, crew: Crew, stores: Stores, engines: Sequence[Contender], say: Say
) -> list[dict[str, Any]]:
    """Gets of one process, beside others that are idle, write at 2 MB/s, or as fast as they can."""
    rows = []
    for one in engines:
        answers: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
        try:
            for repeat in range(settings.repeats):
                with crew.on(stores.orders(one, "os", WRITERS + 1, repeat)):
                    for mode, rate in MODES.items():
                        answers[mode].append(_reading(settings, crew, rate))
        except ChildFailed as error:
            rows.append({"engine": label(one), "error": str(error)})
            say(f"a get beside writers: {label(one)}: {error}")
            continue
        finally:
            stores.clear()
        for mode, several in answers.items():
            figures = {name: median(each[name] for each in several) for name in several[0]}
            rows.append({"engine": label(one), "writers": mode} | figures)
        shown = [f"{mode} {rows[at - 3]['cpu_ns']:,.0f} ns" for at, mode in enumerate(MODES)]
        say(f"a get of {label(one)}: " + ", ".join(shown))
    return rows


def _reading(settings: Settings, crew: Crew, rate: float | None) -> dict[str, float]:
    orders: list[dict[str, Any]] = [{"do": "get", "seconds": settings.seconds}]
    if rate is not None:
        more = 0.1  # so that no writer ends before the reader
        write = {"do": "put", "seconds": settings.seconds + more, "per_second": rate}
        orders += [write] * WRITERS
    read, *written = crew.together(orders)
    return {
        "cpu_ns": read["cpu_ns"] / read["operations"],
        "p50_ns": read["latencies_ns"]["p50"],
        "p99_ns": read["latencies_ns"]["p99"],
        "per_s": read["operations"] / read["seconds"],
        "puts_per_s": sum(answer["operations"] / answer["seconds"] for answer in written),
    }
