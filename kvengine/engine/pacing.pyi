from typing import Self, final

from kvengine.engine.compaction import PAUSE_MAX_S as PAUSE_MAX_S
from kvengine.engine.writing import Writer

@final
class Turns:
    def __new__(cls, store: Writer, *, holds_back: bool) -> Self: ...
