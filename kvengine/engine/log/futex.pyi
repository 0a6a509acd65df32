from typing import Self, final

from kvengine.engine.log.control import Control
from kvengine.file.mapped import MappedFile

HAS_FUTEX: bool
SLEEP_MAX_S: float

@final
class Futex:
    page: Control

    def __new__(cls, page: Control, file: MappedFile | None = None) -> Self: ...
    def prepare(self) -> int: ...
    def sleep(self, prepared: int, version: int, seconds: float) -> None: ...
    def stop(self) -> None: ...
