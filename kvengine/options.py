"""The settings of a store, with their units and defaults."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from kvengine.clock import SYSTEM_CLOCK, Clock
from kvengine.errors import InvalidRequest

Durability = Literal["group", "sync", "interval", "os"]
DURABILITIES: tuple[Durability, ...] = ("group", "sync", "interval", "os")

KEY_BYTES_MAX = 1024
METADATA_BYTES_MAX = 1024
VALUE_BYTES_MAX = 64 << 20
VERSION_LIMIT = 1 << 48  # a record has 48 bits for the version
BATCH_BYTES_MAX = 128 << 20  # a batch lies in one segment, which is addressed by 28 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of one store.

    Raises:
        InvalidRequest: a setting has an invalid value, or two contradict each other.
    """

    durability: Durability = "group"
    sync_interval_s: float = 0.05  # "interval": a crash of the machine loses at most this much
    read_only: bool = False
    exclusive: bool = False  # no other process may write while the store is open
    create: bool = True  # create the folder and the store if they do not exist
    # By default, NFS, SMB, 9p, sshfs and the like are refused, even to readers: using a store from
    # two machines would corrupt it.  True promises that no other machine opens it.
    allow_network_filesystem: bool = False
    rebuild: bool = False  # ignore the saved index and key runs, and rebuild them from the log
    log_writes: Literal["auto", "pwrite"] = "auto"  # "auto" writes through a mapping for "os"
    # A segment is closed once it is larger than this, or than 1/64 of the disk.
    segment_bytes: int = 64 << 20
    compaction: Literal["auto", "manual"] = "auto"
    space_target: float = 1.3  # compact when log bytes / live bytes exceeds this
    compaction_bytes_per_s: int = 256 << 20  # leaves disk bandwidth for others; 0: no limit
    checkpoint_records: int = 1_000_000  # replayed in about a quarter of a second
    key_buffer_entries: int = 65_536  # new keys kept in memory before they go to a key run
    # (start, size): keys that begin with `start` are counted by their first `size` bytes.
    groups: tuple[bytes, int] | None = None
    verify: Literal["auto", "always"] = "auto"  # "always": verify large values on each read too
    clock: Clock = SYSTEM_CLOCK
    # Deletes are kept this long for an inactive consumer; after that it gets LogCompacted.  With a
    # week, a machine that was off for a few days continues where it stopped.
    retention_s: float = 7 * 86400.0
    # Deletes newer than the returned version are kept for readers of the log.
    oldest_needed: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        _one_of("durability", self.durability, DURABILITIES)
        _one_of("log_writes", self.log_writes, ("auto", "pwrite"))
        _one_of("compaction", self.compaction, ("auto", "manual"))
        _one_of("verify", self.verify, ("auto", "always"))
        _within("sync_interval_s", self.sync_interval_s, 0.001, 60)
        _within("retention_s", self.retention_s, 0, 1e10)
        _within("segment_bytes", self.segment_bytes, 4096, 64 << 20)
        _within("space_target", self.space_target, 1.05, 100)
        _within("compaction_bytes_per_s", self.compaction_bytes_per_s, 0, 1 << 50)
        _within("checkpoint_records", self.checkpoint_records, 1, 1 << 40)
        _within("key_buffer_entries", self.key_buffer_entries, 16, 1 << 24)
        _group_setting(self.groups)
        if self.read_only and self.exclusive:
            raise InvalidRequest(
                "read_only=True and exclusive=True exclude each other: only a store that is open "
                "for writing keeps other writers out"
            )


def named(settings: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments of a function, its locals(), that are settings of a dataclass."""
    return {one.name: arguments[one.name] for one in fields(settings) if one.name in arguments}


def _group_setting(groups: object) -> None:
    if groups is None:
        return
    match groups:
        case (bytes(start), int(size)) if 1 <= len(start) <= min(size, 6) and size <= 8:
            return
    raise InvalidRequest(
        "groups must be (start, size), with start of 1 to 6 bytes and size from len(start) to 8, "
        f"not {groups!r}"
    )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidRequest(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidRequest(f"{name} must be between {low} and {high}, not {value!r}")
