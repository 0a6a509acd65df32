"""The whole run: rounds of several processes, a reader beside writers, one process alone, one that
goes on after a kill, and one that waits for writes.

Invariants: nothing is left behind, neither processes nor files.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import machine
from benchmarks.driver import available
from benchmarks.processes.alone import alone_on_a_store
from benchmarks.processes.crew import Crew
from benchmarks.processes.kills import after_kills
from benchmarks.processes.reading import beside_writers
from benchmarks.processes.rounds import rounds
from benchmarks.processes.settings import Contender, Say, Settings, Stores, label
from benchmarks.processes.wakes import wake_ups
from benchmarks.report.lookup import OURS


def measure(settings: Settings, engines: Sequence[Contender], say: Say) -> dict[str, Any]:
    """Run everything and return the result as a dict for `json`."""
    present, versions, missing = available(engines, say)
    folder = Path(tempfile.mkdtemp(prefix="kvengine-bench-", dir=settings.directory))
    facts, started = machine.describe(folder), perf_counter()
    crew = Crew(settings.task(), settings.crew)
    stores = Stores(folder, settings)
    rows = set(settings.rows)
    if OURS not in (engine for engine, _ in present):
        rows -= {"kills", "wakes"}
    together: list[dict[str, Any]] = []
    reading: list[dict[str, Any]] = []
    alone: dict[str, Any] = {"ns": {}, "errors": {}, "ratios": {}}
    kills: dict[str, Any] = {}
    wakes: dict[str, Any] = {}
    try:
        if "rounds" in rows:
            together = rounds(settings, crew, stores, present, say)
        if "reading" in rows:
            reading = beside_writers(settings, crew, stores, present, say)
        if "alone" in rows:
            alone = alone_on_a_store(settings, crew, folder, present, say)
        if "kills" in rows:
            kills = after_kills(settings, folder, say)
        if "wakes" in rows:
            wakes = wake_ups(settings, folder, say)
    finally:
        crew.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "machine": facts,
        "options": asdict(settings) | {"directory": None},
        "versions": versions,
        "another": machine.another_kvengine(Path(settings.beside)) if settings.beside else None,
        "missing": missing,
        "engines": [label(one) for one in present],
        "together": together,
        "beside": reading,
        "alone": alone,
        "kills": kills,
        "wakes": wakes,
        "duration_s": round(perf_counter() - started, 1),
    }
