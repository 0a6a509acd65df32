"""How a store is made: each setting of options.py is a parameter.

Invariants:

* Parameters and defaults are those of Options, which tests/test_settings.py compares, so a typo is
  a TypeError before anything is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

from kvengine.clock import SYSTEM_CLOCK, Clock
from kvengine.engine import opening
from kvengine.engine.access.calls import StoreCalls
from kvengine.engine.open_store import OpenStore
from kvengine.file.directory import Directory
from kvengine.file.filesystem import refuse_shared
from kvengine.file.local import LocalDirectory
from kvengine.file.memory import MemoryDirectory
from kvengine.options import Durability, Options, named


class StoreSettings(StoreCalls):
    """A store, as far as it is made.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        path: Any,
        *,
        durability: Durability = "group",
        sync_interval_s: float = 0.05,
        read_only: bool = False,
        exclusive: bool = False,
        create: bool = True,
        allow_network_filesystem: bool = False,
        rebuild: bool = False,
        log_writes: Literal["auto", "pwrite"] = "auto",
        segment_bytes: int = 64 << 20,
        compaction: Literal["auto", "manual"] = "auto",
        space_target: float = 1.3,
        compaction_bytes_per_s: int = 256 << 20,
        checkpoint_records: int = 1_000_000,
        key_buffer_entries: int = 65_536,
        groups: tuple[bytes, int] | None = None,
        verify: Literal["auto", "always"] = "auto",
        clock: Clock = SYSTEM_CLOCK,
        retention_s: float = 7 * 86400.0,
        oldest_needed: Callable[[], int] | None = None,
    ) -> None:
        settings = Options(**named(Options, locals()))
        folder = opening.folder_path(path)
        if not allow_network_filesystem:
            refuse_shared(folder)
        directory = LocalDirectory(folder, create=create and not read_only)
        self._parts = opening.opened(OpenStore, directory, settings)

    @classmethod
    def in_memory(
        cls,
        *,
        durability: Durability = "os",
        sync_interval_s: float = 0.05,
        read_only: bool = False,
        exclusive: bool = False,
        create: bool = True,
        allow_network_filesystem: bool = False,
        rebuild: bool = False,
        log_writes: Literal["auto", "pwrite"] = "auto",
        segment_bytes: int = 64 << 20,
        compaction: Literal["auto", "manual"] = "auto",
        space_target: float = 1.3,
        compaction_bytes_per_s: int = 256 << 20,
        checkpoint_records: int = 1_000_000,
        key_buffer_entries: int = 65_536,
        groups: tuple[bytes, int] | None = None,
        verify: Literal["auto", "always"] = "auto",
        clock: Clock = SYSTEM_CLOCK,
        retention_s: float = 7 * 86400.0,
        oldest_needed: Callable[[], int] | None = None,
    ) -> Self:
        """Return a new store that leaves nothing on disk; for tests and caches."""
        return cls._in_directory(MemoryDirectory(), **named(Options, locals()))

    @classmethod
    def _in_directory(cls, directory: Directory, **options: Any) -> Self:
        """Open a store in a directory object; tests use it to record and to fail file calls."""
        return cls._of(opening.opened(OpenStore, directory, Options(**options)))

    @classmethod
    def _of(cls, parts: OpenStore) -> Self:
        """Return a store for users over one that is open."""
        store = cls.__new__(cls)
        store._parts = parts
        return store
