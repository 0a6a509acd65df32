"""Micro benchmarks of writes and of the hash: ``pytest benchmarks/micro --benchmark-enable``.

Invariants: a round is a thousand operations; writes go over keys that exist already, in a store of
their own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvengine
from kvengine.engine.index.hash import xxh3_64

ROUND = 1000


def _pairs() -> list[tuple[bytes, bytes]]:
    return [(b"%016d" % number, b"%0100d" % number) for number in range(ROUND)]


def _put_each(put: Callable[[bytes, bytes], object], pairs: list[tuple[bytes, bytes]]) -> None:
    for key, value in pairs:
        put(key, value)


def _put_batch(store: kvengine.Store, pairs: list[tuple[bytes, bytes]]) -> None:
    with store.batch() as batch:
        _put_each(batch.put, pairs)


def _hash_each(arguments: list[bytes]) -> None:
    for argument in arguments:
        xxh3_64(argument)


def test_put(benchmark: Any, tmp_path: Path) -> None:
    """A thousand single puts."""
    with kvengine.Store(str(tmp_path), durability="os") as store:
        benchmark.pedantic(
            _put_each, setup=lambda: ((store.put, _pairs()), {}), rounds=100, warmup_rounds=3
        )
        assert len(store) == ROUND


def test_put_in_batch(benchmark: Any, tmp_path: Path) -> None:
    """One batch of a thousand puts."""
    with kvengine.Store(str(tmp_path), durability="os") as store:
        benchmark.pedantic(
            _put_batch, setup=lambda: ((store, _pairs()), {}), rounds=100, warmup_rounds=3
        )
        assert len(store) == ROUND


@pytest.mark.parametrize("length", [16, 100, 1000, 100_000])
def test_hash(benchmark: Any, length: int) -> None:
    """A thousand hashes, called from Python."""
    benchmark(_hash_each, [bytes(length)] * ROUND)
    assert xxh3_64(bytes(length)) == xxh3_64(bytearray(length))
