"""What a store hands out: entries, changes and reports.  Plain data; nothing here acts."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kvengine.errors import CorruptData


class Entry(NamedTuple):
    """A key with everything that was stored under it."""

    key: bytes
    value: bytes
    metadata: bytes
    expires_at: float | None  # seconds since the epoch; None: never
    version: int


class Change(NamedTuple):
    """One step of the log: a key was put or deleted by ``version``."""

    version: int
    kind: Literal["put", "delete"]
    key: bytes
    value: bytes
    metadata: bytes
    expires_at: float | None


class GroupSize(NamedTuple):
    """What lives in a group of keys."""

    keys: int
    bytes: int  # of keys, values and metadata


class Digest(NamedTuple):
    """A sum over the records of a store that live after a moment."""

    version: int  # of the store
    moment: int  # seconds since the epoch
    keys: int
    sum: int  # 128 bits; equal, to all intents, only if all records are


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures about an open store; sizes in bytes."""

    keys: int
    version: int
    live_bytes: int  # records that a reader can still see
    log_bytes: int  # all records, dead ones too
    disk_bytes: int  # blocks that the folder occupies
    segments: int
    index_bytes: int  # RAM of the hash index
    key_runs: int
    space_amplification: float  # log_bytes / live_bytes
    durability: str
    read_only: bool
    failures: int = 0  # of background work, in a row; 0: the last attempt succeeded
    last_error: str | None = None  # what the last one of them, ever, said
    last_error_at: float | None = None  # Unix time


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What reading every byte of a store found."""

    files: int
    records: int
    bytes: int
    problems: tuple[CorruptData, ...]

    @property
    def ok(self) -> bool:
        """True when nothing is damaged."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """What was rescued from a damaged store, and where bytes had to be left behind."""

    kept: int  # records written to the new store
    lost_ranges: tuple[CorruptData, ...]
