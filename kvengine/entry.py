"""What a store returns: entries, changes and reports, as plain data."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kvengine.errors import CorruptData


class Entry(NamedTuple):
    """A key and everything stored under it."""

    key: bytes
    value: bytes
    metadata: bytes
    expires_at: float | None  # seconds since the epoch; None: never
    version: int


class Change(NamedTuple):
    """One change in the log: ``version`` put or deleted a key."""

    version: int
    kind: Literal["put", "delete"]
    key: bytes
    value: bytes
    metadata: bytes
    expires_at: float | None


class GroupSize(NamedTuple):
    """The size of a group of keys."""

    keys: int
    bytes: int  # of keys, values and metadata


class Digest(NamedTuple):
    """A checksum over the records of a store that are live at a moment."""

    version: int  # of the store
    moment: int  # seconds since the epoch
    keys: int
    sum: int  # 128 bits; for practical purposes, equal only if all records are


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures about an open store; sizes in bytes."""

    keys: int
    version: int
    live_bytes: int  # records that a reader can still see
    log_bytes: int  # all records, including dead ones
    disk_bytes: int  # blocks that the folder occupies
    segments: int
    index_bytes: int  # RAM of the hash index
    key_runs: int
    space_amplification: float  # log_bytes / live_bytes
    durability: str
    read_only: bool
    failures: int = 0  # consecutive failures of background work; 0: the last attempt succeeded
    last_error: str | None = None  # message of the last failure, even an old one
    last_error_at: float | None = None  # Unix time


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of verifying every byte of a store."""

    files: int
    records: int
    bytes: int
    problems: tuple[CorruptData, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is damaged."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """What was recovered from a damaged store, and which ranges were lost."""

    kept: int  # records written to the new store
    lost_ranges: tuple[CorruptData, ...]
