"""Micro benchmarks of reads: ``pytest benchmarks/micro --benchmark-enable``.

Invariants: a round is a thousand operations, so that the loop and the clock do not count; each
benchmark checks its last answer.
"""

from typing import Any

import kvengine

PAIRS = 10_000
ROUND = 1000


def _probes(offset: int) -> list[bytes]:
    return [b"%016d" % (number * 7919 % PAIRS + offset) for number in range(ROUND)]


def _each(call: Any, arguments: list[bytes]) -> Any:
    answer = None
    for argument in arguments:
        answer = call(argument)
    return answer


def test_get(benchmark: Any, store: kvengine.Store) -> None:
    """A thousand gets of keys that are there."""
    answer = benchmark.pedantic(
        _each, setup=lambda: ((store.get, _probes(0)), {}), rounds=200, warmup_rounds=5
    )
    assert len(answer) == 100


def test_get_absent(benchmark: Any, store: kvengine.Store) -> None:
    """A thousand gets of keys that are not there."""
    answer = benchmark.pedantic(
        _each, setup=lambda: ((store.get, _probes(PAIRS)), {}), rounds=200, warmup_rounds=5
    )
    assert answer is None


def test_get_of_dict(benchmark: Any) -> None:
    """The same gets from a dict, for comparison."""
    pairs = {b"%016d" % number: b"%0100d" % number for number in range(PAIRS)}
    answer = benchmark.pedantic(
        _each, setup=lambda: ((pairs.get, _probes(0)), {}), rounds=200, warmup_rounds=5
    )
    assert len(answer) == 100


def test_get_many(benchmark: Any, store: kvengine.Store) -> None:
    """One call for a thousand keys."""
    answer = benchmark.pedantic(
        store.get_many, setup=lambda: ((_probes(0),), {}), rounds=200, warmup_rounds=5
    )
    assert None not in answer


def test_scan(benchmark: Any, store: kvengine.Store) -> None:
    """A thousand entries from the middle."""
    start = b"%016d" % (PAIRS // 2)
    answer = benchmark(lambda: list(store.scan(start_after=start, limit=ROUND)))
    assert len(answer) == ROUND


def test_keys(benchmark: Any, store: kvengine.Store) -> None:
    """A thousand keys of one prefix."""
    prefix = b"%016d" % 5000
    answer = benchmark(lambda: list(store.keys(prefix[:-3])))
    assert len(answer) == ROUND
