from typing_extensions import disjoint_base

from kvengine.engine.access.log_end import LogEnd

@disjoint_base
class Writer(LogEnd):
    pause_s: float
    waiters: int
    follows: BaseException | None

    def _follow_further(self) -> None: ...
    def has_followed(self, generation: int) -> None: ...
    def keep_up(self) -> bool: ...
    def keep_up_to(self, version: int) -> bool: ...
