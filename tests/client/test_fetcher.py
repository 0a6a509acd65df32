"""Requests of an edge: each gets its own answer, together with others or alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.client import fetcher
from kvengine.client.fetcher import Fetcher
from kvengine.edge import codec
from kvengine.edge.codec import Kind
from kvengine.edge.messages import Answer, KeyRequest
from kvengine.errors import KvError, NamespaceNotFound, UpstreamUnavailable

BOUND_S = 30.0


class Primary:
    """A connection to a primary that holds back its first answer until it may go on."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked: list[list[bytes]] = []
        self.may_answer = threading.Event()
        self.failure = failure

    def post(self, path: str, body: bytes, timeout: float) -> bytes:
        (wants,) = codec.frames(fetcher.reader(body), Kind.REQUESTS)
        keys = [want.key for want in wants]
        self.asked.append(keys)
        assert self.may_answer.wait(BOUND_S)
        if b"gone" in keys:
            raise NamespaceNotFound("gone")
        if self.failure is not None:
            raise self.failure
        return codec.encode_answers([Answer(1, 1, 0.0, key) for key in keys], 0)


def ask_all(primary: Any, asked: list[list[bytes]]) -> list[Any]:
    """Ask requests while the first is under way; return what each was told."""
    found: list[Any] = [None] * len(asked)
    left = threading.Semaphore(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetcher, "THREADS", 1)
        asking = Fetcher(primary, BOUND_S)
    for number, keys in enumerate(asked):

        def done(result: Any, number: int = number) -> None:
            assert found[number] is None
            found[number] = result
            left.release()

        asking.fetch([KeyRequest(key) for key in keys], done)
    primary.may_answer.set()
    for _ in asked:
        assert left.acquire(timeout=BOUND_S)
    asking.close()
    return found


KEYS = st.lists(st.sampled_from([b"a", b"b", b"c", b"gone"]), min_size=1, max_size=3)


@given(st.lists(KEYS, min_size=1, max_size=40))
def test_each_gets_its_own_answers(asked: list[list[bytes]]) -> None:
    for keys, told in zip(asked, ask_all(Primary(), asked), strict=True):
        if b"gone" in keys:
            assert isinstance(told, NamespaceNotFound)
        else:
            assert [answer.value for answer in told] == keys


def test_those_that_wait_are_sent_together() -> None:
    primary = Primary()
    count = 2 * fetcher.FETCHES_MAX + 1
    ask_all(primary, [[b"%d" % number] for number in range(count)])
    assert len(primary.asked) <= 4
    assert sorted(key for keys in primary.asked for key in keys) == sorted(
        b"%d" % number for number in range(count)
    )


@pytest.mark.parametrize("failure", [UpstreamUnavailable("down"), OSError("down")])
def test_a_failure_is_told_to_all(failure: Exception) -> None:
    primary = Primary(failure)
    found = ask_all(primary, [[b"a"], [b"b"], [b"c"]])
    assert all(isinstance(told, (KvError, OSError)) for told in found)


def test_after_the_end() -> None:
    asking = Fetcher(Primary(), BOUND_S)
    asking.close()
    told: list[Any] = []
    asking.fetch([KeyRequest(b"a")], told.append)
    assert isinstance(told[0], UpstreamUnavailable)
