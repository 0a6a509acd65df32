"""How much is measured, of which engines, in which folders.

Invariants: kvengine's class "group" stands beside the peers' "sync": in both a put that was
acknowledged is on disk; the pairs of two processes, or of two repeats, are never the same.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines.base import Durability
from benchmarks.report.lookup import OURS

Say = Callable[[str], None]
WRITERS = 3  # beside a reader
ROWS = ("rounds", "reading", "alone", "kills", "wakes")  # what is measured
Contender = tuple[str, str]  # engine, settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is measured."""

    loaded: int = 100_000  # pairs before a round
    own: int = 50_000  # pairs of one process; then it puts them again
    value_bytes: int = 100
    seconds: float = 0.5  # of each round
    repeats: int = 3
    turns: int = 15  # of each engine alone
    operations: int = 20_000  # in such a turn
    kills: int = 25  # of a process in the middle of a put
    wakes: int = 300  # in each way to wait
    processes: tuple[int, ...] = (1, 2, 4, 8)
    rows: tuple[str, ...] = ROWS
    seed: int = 1
    directory: str | None = None
    beside: str | None = None  # a folder with another kvengine, built

    @property
    def crew(self) -> int:
        """How many processes there are at most."""
        return max(*self.processes, WRITERS + 1)

    @property
    def numbers(self) -> int:
        """How many keys there are at all."""
        rounds = self.repeats * self.crew * self.own
        return self.loaded + max(rounds, 2 * self.turns * self.operations)

    def task(self, beside: str | None = None) -> dict[str, Any]:
        """What a process is told at its start."""
        return {
            "loaded": self.loaded,
            "numbers": self.numbers,
            "value_bytes": self.value_bytes,
            "seed": self.seed,
            "beside": beside,
        }


class Stores:
    """The folders of a run: who opens one is told whether to load it first."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self._settings = folder, settings
        self._loaded: set[Path] = set()

    def orders(
        self, contender: Contender, kind: str, processes: int, repeat: int
    ) -> list[dict[str, Any]]:
        """Return the orders to open a store in so many processes, each with pairs of its own."""
        engine, tuning = contender
        path = self.folder / f"{engine}-{tuning}-{kind}-{processes}".replace(" ", "_")
        first_time = path not in self._loaded
        self._loaded.add(path)
        own, loaded = self._settings.own, self._settings.loaded
        return [
            {
                "engine": engine,
                "settings": tuning,
                "path": str(path),
                "durability": durability(engine, kind),
                "load": first_time and index == 0,
                "first": loaded + (repeat * processes + index) * own,
                "count": own,
            }
            for index in range(processes)
        ]

    def clear(self) -> None:
        """Remove all stores."""
        for path in self._loaded:
            shutil.rmtree(path, ignore_errors=True)
        self._loaded.clear()


def durability(engine: str, kind: str) -> Durability:
    """Return what an engine calls a class of durability."""
    if kind == "os":
        return "os"
    return "group" if engine == OURS else "sync"


def label(contender: Contender) -> str:
    """Return how tables name it."""
    engine, tuning = contender
    return engine if tuning == "default" else f"{engine} {tuning}"
