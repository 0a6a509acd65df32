from collections.abc import Callable
from typing import TypeVar

from typing_extensions import disjoint_base

from kvengine.engine.access.reading import Reader

_Result = TypeVar("_Result")
FORKED: str

@disjoint_base
class WriteLock(Reader):
    def refuse_inside(self) -> None: ...
    def exclusively(self, action: Callable[..., _Result], *args: object) -> _Result: ...
    def notice_fork(self) -> None: ...
    def knows_of_fork(self) -> bool: ...
    def after_fork(self) -> None: ...
