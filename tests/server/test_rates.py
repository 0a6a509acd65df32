"""What a token may ask of all processes of a server together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.server.auth.rates import Allowance, RateTable
from kvengine.server.auth.tokens import digest
from kvengine.server.shared import TOKENS_BYTES, shared_memory
from tests.server.buckets import table
from tests.server.processes import HEADERS, serving, values_of, wait_for

TAKES = (
    "import mmap, sys\n"
    "from kvengine.server.auth.rates import *\n"
    "from kvengine.server.shared import TOKENS_BYTES\n"
    "memory = mmap.mmap(int(sys.argv[1]), TOKENS_BYTES)\n"
    "bucket = Allowance(RateTable(memory), b'x' * 32, 5000.0)\n"
    "print(sum(bucket.take(1000.0) for _ in range(4000)))\n"
)


SLOTS = TOKENS_BYTES // 16


class Bucket:
    """A bucket of one process, which fills with time: what the shared ones are compared with."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = self._left = max(1.0, rate)
        self._at = 0.0

    def take(self, now: float) -> bool:
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def wait_s(self) -> float:
        return max(0.0, (1 - self._left) / self._rate)


@given(
    st.floats(0.01, 100),
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from("ttttg")), max_size=80),
)
def test_it_gives_what_a_bucket_of_one_process_gives(
    rate: float, steps: list[tuple[float, str]]
) -> None:
    shared, own = Allowance(table(), digest(b"a"), rate), Bucket(rate)
    now = 1000.0
    own.take(now)
    shared.take(now)
    taken = given_back = 0
    for pause, step in steps:
        now += pause
        if step == "g":
            shared.give_back()
            given_back += 1
        else:
            taken += shared.take(now)
        assert taken - given_back <= max(1.0, rate) + rate * (now - 1000) + 1e-3
    if not steps:
        assert abs(shared.wait_s - own.wait_s) < 1e-6


def test_it_fills_again() -> None:
    bucket = Allowance(table(), digest(b"a"), 2.0)
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert 0 < bucket.wait_s <= 0.5
    bucket.give_back()
    assert bucket.take(1.0)
    assert not bucket.take(1.25)
    assert bucket.take(1.5)


def test_tokens_have_buckets_of_their_own_and_the_table_may_be_full() -> None:
    shared = table()
    buckets = [Allowance(shared, digest(b"%d" % number), 1.0) for number in range(2 * SLOTS)]
    assert all(bucket.take(5.0) for bucket in buckets)
    assert sum(not bucket.take(5.0) for bucket in buckets) > 100
    assert all(bucket.take(7.0) for bucket in buckets[:100])


def test_a_table_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        RateTable(bytearray(5))


def test_processes_and_threads_take_from_one_bucket() -> None:
    memory = shared_memory(TOKENS_BYTES)
    try:
        command = [sys.executable, "-c", TAKES, str(memory)]
        children = [
            subprocess.Popen(command, pass_fds=[memory], stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        taken = sum(int(child.communicate(timeout=60)[0]) for child in children)
    finally:
        os.close(memory)
    assert taken == 5000  # of 12,000 that were asked for


def test_workers_hold_the_rate_together(tmp_path: Path) -> None:
    """Three processes that read, and one that writes, give a token what one process would give."""
    with serving(tmp_path / "data", "--workers", "3", "--limits", "relaxed") as server:
        server.wait_until_ready()
        place = server.url + values_of(server)
        httpx.put(f"{place}/k", headers=HEADERS, content=b"v", timeout=30)
        asked = {"name": "slow", "rate": 0.01, "write": True}
        made = httpx.post(f"{server.url}/v1/tokens", headers=HEADERS, json=asked, timeout=30)
        slow = {"authorization": f"Bearer {made.json()['secret']}"}
        # Readers know of it when the log has told them.
        path = f"{server.url}/v1/me"
        wait_for(lambda: httpx.get(path, headers=slow, timeout=30).status_code in (200, 429))
        barrier = threading.Barrier(16)

        def ask(number: int) -> int:
            with httpx.Client(headers=slow, timeout=30) as client:
                client.get(f"{server.url}/health")
                barrier.wait(30)
                answers = [client.get(f"{place}/k") for _ in range(3)]
                answers.append(client.put(f"{place}/{number}", content=b"v"))
            return sum(answer.is_success for answer in answers)

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(ask, range(16))) <= 1
