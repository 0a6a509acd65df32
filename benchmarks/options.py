"""What one run was asked to do.

Invariants: an ``Options`` survives ``as_json`` and ``from_json`` unchanged, because every engine
runs in a process of its own and gets its options as text; and the same options with the same seed
give the same keys, values and order of operations.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of a run; see ``python -m benchmarks run --help``."""

    keys: int = 1_000_000
    key_bytes: int = 16
    value_bytes: int = 100
    key_kind: str = "decimal"  # or "hashed": 16 hex digits without order
    compressible: float = 0.0  # the part of a value that a compressor takes away
    repeats: int = 5
    seed: int = 1
    budget_s: float = 1.0  # seconds a workload may take per engine, times the workload's weight
    directory: str | None = None
    cpu: int | None = None  # keep each engine's process on this CPU

    def as_json(self) -> dict[str, Any]:
        """A dict that ``json`` accepts."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Options":
        """The options that ``as_json`` described."""
        return cls(**fields)
