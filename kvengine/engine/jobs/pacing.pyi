from typing import Self, final

from kvengine.engine.access.writing import Writer
from kvengine.engine.jobs.compaction import PAUSE_MAX_S as PAUSE_MAX_S

@final
class Turns:
    def __new__(cls, store: Writer, *, holds_back: bool) -> Self: ...
