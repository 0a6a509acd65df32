from typing import Self, final

@final
class Recency:
    is_frequency: bool

    def __new__(cls, keys: int, is_frequency: bool, seed: int) -> Self: ...
    def note(self, names: list[bytes], version: int) -> None: ...
    def worst_first(
        self, found: list[tuple[bytes, int, int]], now: int
    ) -> list[tuple[bytes, int, int]]: ...
