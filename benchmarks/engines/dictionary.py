"""A Python ``dict``: the mark for reads from memory.

Invariants: nothing survives the process, so it takes part in no test of durability; it has no key
order, so it takes part in no scan.
"""

import platform
from pathlib import Path

from benchmarks.engines.base import STORE, THREADS, Durability, Engine, Pair


class Dict(Engine):
    """The same pairs in a dict."""

    name = "dict"
    settings = ("default",)
    abilities = frozenset({STORE, THREADS})

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        super().__init__(path, settings, durability, read_only=read_only)
        self._pairs: dict[bytes, bytes] = {}
        get = self.get = self._pairs.get
        self.put = self._pairs.__setitem__
        self.delete = self._pairs.__delitem__
        self.get_many = lambda keys: list(map(get, keys))

    @classmethod
    def version(cls) -> str:
        """The version of Python."""
        return platform.python_version()

    def load(self, pairs: list[Pair]) -> None:
        """``dict.update``."""
        self._pairs.update(pairs)

    def close(self) -> None:
        """Forget everything."""
        self._pairs.clear()
