from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from kvengine.file.directory import Directory
from kvengine.file.mapped import MappedFile

LEVELS: dict[str, int]

def level_of(durability: object) -> int: ...

@disjoint_base
class CommitGroup:
    appended: int
    synced: int
    version: int
    durable_version: int
    is_sync_due: bool
    failure: BaseException | None
    on_failure: Callable[[Any], None] | None

    def begin(
        self,
        folder: Directory,
        unsynced: list[MappedFile],
        file: MappedFile | None,
        version: int,
        durable: bool,
    ) -> None: ...
    def after_fork(self) -> None: ...
    def fail(self, error: OSError) -> None: ...
    def forget_files(self) -> bool: ...
    def check_present(self) -> None: ...
    def sync_file(self, file: MappedFile) -> None: ...
    def sync(self, always: bool = False) -> None: ...
