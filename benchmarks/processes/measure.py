"""The whole run: rounds of several processes, a reader beside writers, one process alone.

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
from benchmarks.processes.reading import beside_writers
from benchmarks.processes.rounds import rounds
from benchmarks.processes.settings import Contender, Say, Settings, Stores, label


def measure(settings: Settings, engines: Sequence[Contender], say: Say) -> dict[str, Any]:
    """Run everything and return the result as a dict for `json`."""
    present, versions, missing = available(engines, say)
    folder = Path(tempfile.mkdtemp(prefix="kvengine-bench-", dir=settings.directory))
    facts, started = machine.describe(folder), perf_counter()
    crew = Crew(settings.task(), settings.crew)
    stores = Stores(folder, settings)
    try:
        together = rounds(settings, crew, stores, present, say)
        beside = beside_writers(settings, crew, stores, present, say)
        alone = alone_on_a_store(settings, crew, folder, present, say)
    finally:
        crew.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "machine": facts,
        "options": asdict(settings) | {"directory": None},
        "versions": versions,
        "missing": missing,
        "engines": [label(one) for one in present],
        "together": together,
        "beside": beside,
        "alone": alone,
        "duration_s": round(perf_counter() - started, 1),
    }
