"""A source for tests: the log of a store in this process, cut into pieces at will."""

import random
from collections.abc import Callable, Iterator

from kvengine import Store
from kvengine.replication.network.messages import Piece


class StoreSource:
    """Pieces of random sizes; `uuid` is that of the store."""

    def __init__(self, store: Store, seed: int = 0, most: int = 5) -> None:
        self.store, self._random, self._most = store, random.Random(seed), most
        self.uuid = store._parts.manifest.uuid
        self.between: Callable[[], None] = lambda: None  # called before each piece

    @property
    def version(self) -> int:
        return self.store.version

    def pieces(self, after: int, *, follow: bool = False) -> Iterator[Piece]:
        tail = self.store._parts.tail_from(after, b"")
        while True:
            changes = list(tail.changes())
            while True:
                taken = self._random.randint(1, self._most)
                chunk, changes = changes[:taken], changes[taken:]
                upto = chunk[-1].version if changes else tail.seen
                self.between()
                yield Piece(after, upto, tuple(chunk), not changes)
                after = upto
                if not changes:
                    break
            if not follow:
                return
            self.store.wait(after, 0.05)
