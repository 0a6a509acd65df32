from collections.abc import Callable
from typing import TypeVar

from typing_extensions import disjoint_base

from kvengine.engine.durable import CommitGroup
from kvengine.engine.key_order import KeyOrder
from kvengine.engine.reading import Reader

LEVELS: dict[str, int]
_Result = TypeVar("_Result")

def level_of(durability: object) -> int: ...

@disjoint_base
class Writer(Reader):
    commits: CommitGroup
    pause_s: float
    waiters: int
    refusal: BaseException | None
    follows: BaseException | None

    def configure_writes(
        self,
        order: KeyOrder,
        commits: CommitGroup,
        level: int,
        segment_bytes: int,
        store_to_mapping: bool,
    ) -> None: ...
    def rebase(self, order: KeyOrder) -> None: ...
    def activate(self, segment_id: int) -> None: ...
    def refuse_writes(self, error: BaseException | None) -> None: ...
    def stop_writes(self, error: BaseException) -> None: ...
    def exclusively(self, action: Callable[[], _Result]) -> _Result: ...
