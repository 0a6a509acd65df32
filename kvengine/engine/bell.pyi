from typing import Self, final

from kvengine.engine.control import Control
from kvengine.file.mapped import MappedFile

HAS_FUTEX: bool
LONGEST_REST_S: float

@final
class Bell:
    def __new__(cls, file: MappedFile, page: Control) -> Self: ...
    def sleep(self, version: int, seconds: float) -> None: ...
    def ring(self) -> None: ...
