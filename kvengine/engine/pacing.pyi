from typing import Self, final

from kvengine.engine.writing import Writer

@final
class Turns:
    def __new__(cls, store: Writer, *, holds_back: bool) -> Self: ...
