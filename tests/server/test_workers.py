"""Servers of many processes: what one of them does, all know, and it is counted once."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

import kvengine
from kvengine.client.packing import pack
from tests.server.processes import (
    HEADERS,
    NAMESPACES,
    Process,
    children,
    serving,
    values_of,
    wait_for,
)

WORKERS = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    options = ("--workers", str(WORKERS), "--limits", "relaxed")
    with serving(tmp_path / "data", *options) as found:
        found.wait_until_ready()
        yield found


def inodes_of(pid: int) -> set[str]:
    """Return the sockets that a process has."""
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(one))
        except OSError:
            continue
    return found


class Worker:
    """A connection to one worker."""

    def __init__(self, server: Process) -> None:
        self.http = httpx.Client(base_url=server.url, headers=HEADERS, timeout=60)
        self.http.get("/health")
        self.server = server

    def pid(self) -> int:
        """Return the process that has the other end of the connection."""
        [pooled] = self.http._transport._pool.connections  # type: ignore[attr-defined]
        mine = pooled._connection._network_stream.get_extra_info("client_addr")[1]
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        ends = (f":{httpx.URL(self.server.url).port:04X}", f":{mine:04X}")  # others share a port
        [inode] = [row[9] for row in rows if (row[1][-5:], row[2][-5:]) == ends and row[3] == "01"]
        [pid] = [
            pid
            for pid in children(self.server.process.pid)
            if f"socket:[{inode}]" in inodes_of(pid)
        ]
        return pid


def each_worker(server: Process, stack: ExitStack) -> list[httpx.Client]:
    """Return a connection to each worker."""
    found: dict[int, httpx.Client] = {}

    def more() -> bool:
        several = [Worker(server) for _ in range(2 * WORKERS)]
        for worker in several:
            http = stack.enter_context(closing(worker.http))
            found.setdefault(worker.pid(), http)
        return len(found) == WORKERS

    wait_for(more)
    return list(found.values())


def test_all_of_them_write_and_count(server: Process, tmp_path: Path) -> None:
    """Every write is there, once; usage and figures are those of all; each knows the others'."""
    values = values_of(server)
    namespace = values.split("/")[-2]
    with ExitStack() as stack:
        workers = each_worker(server, stack)
        count = 40

        def work(number: int) -> None:
            http = workers[number]
            for n in range(count):
                put = http.put(f"{values}/{number}-{n}", content=b"v")
                assert put.status_code == 200
                data = pack([["n"], {}])
                done = http.post(f"/v1/ns/{namespace}/increment", content=data)
                assert done.status_code == 200, done.text
                other = workers[(number + 1) % WORKERS]
                assert other.get(f"{values}/{number}-{n}").content == b"v"

        # A client may not be used by two threads at a time: one after the other, then all at once.
        for number in range(WORKERS):
            work(number)
        with ThreadPoolExecutor(WORKERS) as pool:
            places = [f"{values}/again-{number}" for number in range(WORKERS)]
            list(pool.map(_puts, workers, places, [count] * WORKERS))
        said = 'kvengine_requests_total{action="write",status="200",surface="rest"} %.1f'
        expected = said % (2 * WORKERS * count)
        for http in workers:
            wait_for(lambda http=http: expected in http.get("/metrics").text)  # type: ignore[misc]
            assert http.get("/ready").json() == {"ready": True}
            assert live(http)["figures"]["requests"]["write"] == 3 * WORKERS * count
        total = 3 * WORKERS * count
        wait_for(lambda: workers[0].get("/v1/usage").json()["counts"]["writes"] == total)
    assert server.stop() == 0
    with kvengine.open(tmp_path / "data") as db:
        kv = db.namespace_by_id(namespace)
        assert kv.get("n") == str(WORKERS * count)
        assert db.usage().counts.writes == total
        assert len([*kv.keys()]) == 1 + 2 * WORKERS * count


def _puts(http: httpx.Client, place: str, count: int) -> None:
    for number in range(count):
        assert http.put(f"{place}-{number}", content=b"v").status_code == 200


def live(http: httpx.Client) -> Any:
    """Return the first line of what happens, as the console gets it."""
    with http.stream("GET", "/v1/live") as answer:
        return json.loads(next(answer.iter_lines()))


def test_tokens_and_namespaces_are_known_to_all_at_once(server: Process) -> None:
    values_of(server)
    with ExitStack() as stack:
        workers = each_worker(server, stack)
        for one in workers:
            secret = one.post("/v1/tokens", json={"name": "x", "write": True}).json()
            theirs = {"authorization": f"Bearer {secret['secret']}"}
            made = one.post(NAMESPACES, json={"title": "new"}).json()["result"]["id"]
            for http in workers:
                where = f"{NAMESPACES}/{made}/values/k"
                assert http.put(where, content=b"v", headers=theirs).status_code == 200
                for other in workers:
                    for _ in range(2):  # the second one by the fast path
                        assert other.get(where, headers=theirs).content == b"v"
            one.delete(f"{NAMESPACES}/{made}").raise_for_status()
            for http in workers:
                assert http.get(where, headers=theirs).status_code == 404
            one.delete(f"/v1/tokens/{secret['token']['id']}").raise_for_status()
            for http in workers:
                assert http.get(NAMESPACES, headers=theirs).status_code == 401


def test_bounds_are_known_to_all_at_once(server: Process) -> None:
    with ExitStack() as stack:
        workers = each_worker(server, stack)
        made = workers[0].post(NAMESPACES, json={"title": "new", "max_keys": 90}).json()["result"]
        where = f"{NAMESPACES}/{made['id']}"
        for most, one in enumerate(workers, 3):
            body = {"title": "new", "max_keys": most}
            expected = one.put(where, json=body).json()["result"]
            assert expected == made | {"max_keys": most}
            for http in workers:
                assert http.get(where).json()["result"] == expected
                for number in range(6):
                    http.put(f"{where}/values/{number}", content=b"v").raise_for_status()
                assert len(http.get(f"{where}/keys").json()["result"]) == most


def test_a_write_wakes_watchers_of_all(server: Process) -> None:
    namespace = values_of(server).split("/")[-2]
    with ExitStack() as stack:
        workers = each_worker(server, stack)
        watches = []
        for http in workers:
            request = http.build_request("GET", "/v1/changes?after=0&hold=20", timeout=60)
            client = stack.enter_context(httpx.Client(timeout=60))
            watches.append(stack.enter_context(closing(client.send(request, stream=True))))
        assert all(one.status_code == 200 for one in watches)
        put = workers[0].put(f"{NAMESPACES}/{namespace}/values/changes", content=b"v")
        assert put.status_code == 200
        for one in watches:
            found = b""
            for piece in one.iter_raw():
                found += piece
                if b"changes" in found:
                    break
            assert b"changes" in found


def test_every_worker_shows_every_edge(server: Process) -> None:
    values_of(server)
    with ExitStack() as stack:
        workers = each_worker(server, stack)
        for number, http in enumerate(workers):
            report = pack({"position": 0, "reads": number})
            http.post(f"/v1/edge/place {number}", content=report).raise_for_status()

        def shown(http: httpx.Client) -> list[str]:
            return [one["name"] for one in live(http)["edges"]]

        names = [f"place {number}" for number in range(WORKERS)]
        for http in workers:
            wait_for(lambda http=http: shown(http) == names)  # type: ignore[misc]


def test_a_key_is_written_once_a_second_by_all(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", str(WORKERS)) as server, ExitStack() as stack:
        server.wait_until_ready()
        values = values_of(server)
        workers = each_worker(server, stack)
        barrier = threading.Barrier(WORKERS)

        def write(number: int) -> list[int]:
            barrier.wait(60)
            return [
                workers[number].put(f"{values}/{key}", content=b"v").status_code
                for key in range(10)
                for _ in range(2)
            ]

        began = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as pool:
            found = [status for one in pool.map(write, range(WORKERS)) for status in one]
        took_s = time.monotonic() - began
        assert found.count(429) + found.count(200) == len(found)
        assert 10 <= found.count(200) <= 10 * (1 + int(took_s))


def test_killed_under_load(server: Process, tmp_path: Path) -> None:
    """What was acknowledged is there; figures of a worker outlive it; the others serve on."""
    values = values_of(server)
    stopping = threading.Event()
    acknowledged: list[list[str]] = [[] for _ in range(4)]

    def write(number: int) -> None:
        count = 0
        while not stopping.is_set():
            try:
                with httpx.Client(base_url=server.url, headers=HEADERS, timeout=60) as http:
                    while not stopping.is_set():
                        count += 1
                        key = f"{number}-{count}"
                        if http.put(f"{values}/{key}", content=key.encode()).status_code == 200:
                            acknowledged[number].append(key)
            except httpx.HTTPError:  # its worker was killed
                continue

    def totals() -> float:
        found = httpx.get(f"{server.url}/metrics", headers=HEADERS, timeout=60)
        label = 'kvengine_requests_total{action="write",status="200"'
        lines = [line for line in found.text.splitlines() if line.startswith(label)]
        return sum(float(line.split()[-1]) for line in lines)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    chance, before = random.Random(15), 0.0
    for _ in range(4):
        count = sum(map(len, acknowledged))
        wait_for(lambda count=count: sum(map(len, acknowledged)) > count + 40)  # type: ignore[misc]
        pids = children(server.process.pid)
        os.kill(chance.choice(pids), signal.SIGKILL)
        wait_for(lambda pids=pids: children(server.process.pid) != pids)  # type: ignore[misc]
        wait_for(lambda: len(children(server.process.pid)) == WORKERS)
        now = totals()
        assert now >= before
        before = now
    stopping.set()
    for thread in threads:
        thread.join(60)
    # One that was killed may have answered, and not have counted it.
    wait_for(lambda: totals() >= sum(map(len, acknowledged)) - 4)
    assert server.stop() == 0
    with kvengine.open(tmp_path / "data", read_only=True) as db:
        kv = db.namespace("default")
        lost = [key for keys in acknowledged for key in keys if kv.get(key) != key]
        assert lost == []


def test_a_stopped_worker_holds_up_nobody(server: Process) -> None:
    values = values_of(server)
    with ExitStack() as stack:
        workers = [Worker(server) for _ in range(6)]
        by_pid: dict[int, Worker] = {}
        for worker in workers:
            stack.enter_context(closing(worker.http))
            by_pid.setdefault(worker.pid(), worker)
        stopped = next(iter(by_pid))
        others = [worker for worker in workers if worker.pid() != stopped]
        if not others:
            pytest.skip("all connections came to one worker")
        os.kill(stopped, signal.SIGSTOP)
        try:
            for number in range(50):
                put = others[0].http.put(f"{values}/{number}", content=b"v")
                assert put.status_code == 200
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert by_pid[stopped].http.get(f"{values}/49").content == b"v"
