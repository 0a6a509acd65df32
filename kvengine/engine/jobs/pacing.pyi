from typing import Self, final

from kvengine.engine.access.writing import Writer
from kvengine.engine.jobs.compaction import PAUSE_MAX_S as PAUSE_MAX_S

@final
class Pacer:
    def __new__(cls, store: Writer, *, throttles: bool) -> Self: ...
