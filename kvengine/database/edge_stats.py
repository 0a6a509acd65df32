"""Figures about an edge: for its users, and for the primary.

Invariants:

* They are read without a lock: each is correct, but they may be from different moments.
"""

from __future__ import annotations

from typing import NamedTuple

from kvengine.edge.counters import Counters
from kvengine.edge.node import EdgeNode


class EdgeStats(NamedTuple):
    """Figures about an edge."""

    name: str
    counters: Counters
    position: int  # changes up to this version have reached it
    lag_versions: int  # how many versions it has heard of, and not reached
    lag_seconds: float  # how long ago, at most, it had everything; inf: never since it began
    connected: bool  # the last poll for changes was answered
    memory_bytes: int  # of copies
    error: str | None = None  # why the last poll was not answered


def report(node: EdgeNode) -> dict[str, int]:
    """Return what the primary is told of an edge."""
    counters = node.counters
    return {
        "position": node.position,
        "reads": counters.reads,
        "hits": counters.memory_hits + counters.disk_hits,
        "memory_bytes": node.copies.memory_usage(),
    }
