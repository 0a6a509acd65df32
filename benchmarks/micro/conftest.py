"""A small loaded store for the micro benchmarks.

Invariants: one store for all of them, 10,000 pairs of 16 + 100 B, durability "os".
"""

from collections.abc import Iterator

import pytest

import kvengine

PAIRS = 10_000


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kvengine.Store]:
    """A store that holds ``PAIRS`` pairs."""
    path = tmp_path_factory.mktemp("micro") / "store"
    with kvengine.Store(str(path), durability="os") as opened:
        with opened.batch() as batch:
            for number in range(PAIRS):
                batch.put(b"%016d" % number, b"%0100d" % number)
        yield opened
