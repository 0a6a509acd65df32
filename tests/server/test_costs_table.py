"""Each row of "What a client can cost" in kvengine/server/README.md, as an attack on a real server.

Memory grows by less than the row allows, /health is answered, and another token reads and writes
meanwhile; on a machine that does nothing else (KVENGINE_LONG=1) /health takes less than 100 ms.
What each attacker is told is looked at row by row in test_costs.py, test_slow.py, test_links.py
and test_accepting.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from kvengine.client.packing import pack, unpack
from tests.server.processes import (
    HEADERS,
    LARGE,
    MEBIBYTE,
    NAMESPACES,
    Target,
    Watch,
    connected,
    head,
    sent,
    serving,
    wait_for,
)

README = Path(__file__).parents[2] / "kvengine" / "server" / "README.md"
LONG = os.environ.get("KVENGINE_LONG") == "1"
HEALTH_S = 0.1 if LONG else 10.0  # shorter only where nothing else runs
ATTEMPTS = 3  # a busy machine is slow now and then; a server that blocks is slow each time


def flood(start: bytes, again: bytes) -> Callable[[Target, ExitStack], None]:
    """Send something without end on several connections; each is cut off."""

    def attack(target: Target, _: ExitStack) -> None:
        def one(_: int) -> int:
            with closing(connected(target.url)) as connection:
                connection.sendall(start)
                return sent(connection, again * (65_536 // len(again)), 1000)

        with ThreadPoolExecutor(4) as pool:
            assert max(pool.map(one, range(4))) < 1000
        target.check_others()

    return attack


def held(
    count: int, request: Callable[[Target], bytes], *, answers: dict[bytes, int] | None = None
) -> Callable[[Target, ExitStack], None]:
    """Hold many connections, each with a request under way.

    Args:
        answers: their statuses; how often at the most, if it is one that lets in. (What an earlier
            attack had under way may still take up some.)
    """

    def attack(target: Target, stack: ExitStack) -> None:
        data = request(target)
        connections = []
        for _ in range(count):
            connection = stack.enter_context(closing(connected(target.url)))
            connection.sendall(data)
            connections.append(connection)
        target.check_others()
        if answers is not None:
            found: dict[bytes, int] = {}
            for connection in connections:
                status = connection.recv(64)[9:12]
                found[status] = found.get(status, 0) + 1
            assert found.keys() == answers.keys(), found
            assert all(found[one] <= answers[one] for one in found if one < b"400"), found
        target.check_others()

    return attack


def in_turn(
    *requests: Callable[[Target], int], allowed: tuple[int, ...]
) -> Callable[[Target, ExitStack], None]:
    """Send requests that are refused, several at once."""

    def attack(target: Target, _: ExitStack) -> None:
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(request, target) for request in requests]
            target.check_others()
            assert {one.result() in allowed for one in found} == {True}, [f.result() for f in found]

    return attack


def sized(method: str, path: str, size: int, *lines: bytes, token: bool = True) -> bytes:
    return head(method, path, b"Content-Length: %d" % size, *lines, token=token)


def long_paths(target: Target) -> int:
    fields = "&".join(f"a{number}=b" for number in range(1000))
    for path, status in (("/v1" + "/%61" * 4000, 404), ("/" + "x" * 20_000, 414),
                         (f"{NAMESPACES}?{fields}", 400)):  # fmt: skip
        for _ in range(20):
            assert target.status("GET", path, b"") == status
    return 400


def too_large_a_value(target: Target) -> int:
    return target.status("PUT", f"{target.values}/k", bytes(LARGE + 1))


def too_many_pairs(target: Target) -> int:
    pairs = json.dumps([{"key": f"k{n}", "value": "v"} for n in range(10_001)]).encode()
    return target.status("PUT", target.values.removesuffix("/values") + "/bulk", pairs)


def too_many_parts(target: Target) -> int:
    part = b'--b\r\ncontent-disposition: form-data; name="metadata[%d]"\r\n\r\nv\r\n'
    parts = b"".join(part % number for number in range(2000)) + b"--b--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=b"}
    return target.status("PUT", f"{target.values}/k", parts, **kind)


def other_bodies(target: Target) -> int:
    for path in ("/v1/tokens", f"/v1/delete-prefix/{target.namespace}", "/v1/edge/x"):
        assert target.status("POST", path, bytes(5 * MEBIBYTE)) == 413, path
    return target.status("POST", "/v1/fetch", bytes(5 * MEBIBYTE))


def unwanted(target: Target) -> int:
    """Send what nobody has asked for."""

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(MEBIBYTE)

    url = f"{target.url}{target.values}/k"
    assert httpx.put(url, content=pieces(), timeout=60).status_code == 401
    with closing(connected(target.url)) as connection:
        connection.sendall(sized("PUT", f"{target.values}/k", 300 * MEBIBYTE))
        return int(connection.recv(64)[9:12])


def nested(text: bytes) -> Callable[[Target], int]:
    def request(target: Target) -> int:
        body = len(text).to_bytes(4, "little") + text
        return target.status("POST", f"/v1/ns/{target.namespace}/get", body)

    return request


def query(target: Target) -> int:
    text = "{ viewer " + "@skip(if: false) " * 3000 + "{ accounts { __typename } } }"
    deep = "{ viewer " * 900 + "}" * 900
    for one in (text, deep):
        body = json.dumps({"query": one}).encode()
        assert target.status("POST", "/client/v4/graphql", body) == 200
    return 400


def behind_a_request(target: Target, stack: ExitStack) -> None:
    """Many connections with a stream, and much behind it."""
    more = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2000
    for _ in range(40):
        connection = stack.enter_context(closing(connected(target.url, timeout=0.05)))
        connection.sendall(head("GET", "/v1/live"))
        with suppress(OSError):
            sent(connection, more, 100)
    target.check_others()


def promised(size: int) -> Callable[[Target], bytes]:
    return lambda target: sized("PUT", f"{target.values}/k", size, b"Expect: 100-continue")


def large_values(target: Target, _: ExitStack) -> None:
    """Values of 25 MiB, written and read at once."""

    def one(number: int) -> int:
        if number % 2:
            return target.status("PUT", f"{target.values}/large{number}", bytes(LARGE))
        return target.status("GET", f"{target.values}/large", b"")

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(one, number) for number in range(8)]
        target.check_others()
        assert {each.result() for each in found} <= {200, 429}


def much_to_understand(target: Target, _: ExitStack) -> None:
    pairs = [{"key": f"k{n}", "value": "v" * 300, "metadata": {"n": [n] * 5}} for n in range(9999)]
    body = pack([[pairs], {}])
    with ThreadPoolExecutor(4) as pool:
        path = f"/v1/ns/{target.namespace}/put_many"
        found = [pool.submit(target.status, "POST", path, body) for _ in range(4)]
        target.check_others()
        assert {each.result() for each in found} == {200}


def from_one_address(target: Target, stack: ExitStack) -> None:
    """More connections than one address may have; others come from another one."""
    refused = 0
    for _ in range(150):
        connection = stack.enter_context(closing(socket.socket()))
        connection.bind(("127.0.0.2", 0))
        connection.settimeout(30)
        connection.connect(("127.0.0.1", int(target.url.rpartition(":")[2])))
        with suppress(ConnectionError):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            refused += connection.recv(64)[9:12] == b"503"
    assert refused == 50
    target.check_others()


def silent_primary(target: Target, stack: ExitStack) -> None:
    """Tokens that nobody knows, while the primary says nothing."""
    assert target.primary is not None
    target.primary.process.send_signal(signal.SIGSTOP)
    target.writes = False
    try:
        unknown = b"Authorization: Bearer no"
        held(
            400,
            lambda target: head("GET", f"{target.values}/held", unknown, token=False),
            answers={b"503": 400},
        )(target, stack)
    finally:
        target.primary.process.send_signal(signal.SIGCONT)
        target.writes = True
    wait_for(lambda: target.status("PUT", f"{target.values}/k", b"v") == 200)


def watch_of(target: Target) -> bytes:
    body = pack([[], {}])
    return sized("POST", f"/v1/ns/{target.namespace}/watch", len(body)) + body


def news_of(target: Target) -> bytes:
    found = httpx.post(f"{target.url}/v1/version", headers=HEADERS, content=b"")
    return head("GET", f"/v1/changes?after={unpack(found.content)['version']}")


class Row(NamedTuple):
    """An attack, and the MiB by which memory may grow under it."""

    attack: Callable[[Target, ExitStack], None]
    most: int = 96
    kind: str = "plain"


CHUNKED = head("PUT", "/x", b"Transfer-Encoding: chunked", token=False)
START = b"GET /health HTTP/1.1\r\n"
ROWS = {
    "bytes of request headers": Row(flood(START + b"a: ", b"x")),
    "number of headers": Row(flood(START, b"a: b\r\n")),
    "path with its query": Row(in_turn(long_paths, allowed=(400,))),
    "blank lines before a request": Row(flood(b"\r\n", b"\r\n")),
    "chunk extensions of a body": Row(flood(CHUNKED, b"1;abcdefghijklmnop\r\nx\r\n")),
    "trailers of a body": Row(flood(CHUNKED + b"0\r\n", b"a:\r\n")),
    "a value; a bulk call; a form": Row(
        in_turn(too_large_a_value, too_many_pairs, too_many_parts, allowed=(400, 413))
    ),
    "other bodies": Row(in_turn(other_bodies, other_bodies, allowed=(413,))),
    "a refused body": Row(in_turn(unwanted, unwanted, allowed=(413,))),
    "JSON in a body": Row(
        in_turn(
            nested(b"[" + b"[" * 5_000_000 + b"]" * 5_000_000 + b"]"),
            nested(b"[" + b"[]," * 3_000_000 + b"[]]"),
            allowed=(400, 413),
        ),
        most=200,
    ),
    "an analytics query": Row(in_turn(query, query, allowed=(400,))),
    "pipelined bytes": Row(behind_a_request),
    "bytes of bodies in memory": Row(
        held(40, promised(MEBIBYTE), answers={b"100": 30, b"429": 10}), kind="small"
    ),
    "bytes of bodies in temporary files": Row(
        held(100, promised(LARGE), answers={b"100": 81, b"429": 19})
    ),
    "large values being written, and large responses in memory": Row(large_values, most=256),
    "time to parse a body": Row(much_to_understand, most=256),
    "connections": Row(from_one_address, kind="small"),
    "requests of a token in progress": Row(
        held(1100, lambda target: sized("PUT", f"{target.values}/k", 9))
    ),
    "streams of a token": Row(held(150, watch_of, answers={b"200": 100, b"429": 50})),
    "log readers of a token": Row(
        held(150, lambda _: head("GET", "/v1/log?follow=1"), answers={b"200": 100, b"429": 50}),
        most=1000,  # what the token may hold, and what is being made, of values of 25 MiB
    ),
    "connected edges": Row(held(1010, news_of, answers={b"200": 1000, b"429": 10}), most=160),
    "forwarded requests": Row(
        held(80, lambda target: sized("PUT", f"{target.values}/k", 5_000_000) + bytes(1_100_000)),
        most=256,
        kind="edge",
    ),
    "requests with unknown tokens while the primary does not answer": Row(
        silent_primary, kind="edge"
    ),
    "time to send the headers": Row(held(200, lambda _: START + b"Host:")),
    "time between two pieces of a body": Row(
        held(200, lambda target: sized("PUT", f"{target.values}/k", 9) + b"v")
    ),
    "time between two reads of a response": Row(
        held(40, lambda target: head("GET", f"{target.values}/large")), most=400
    ),
    "idle time of a connection": Row(
        held(200, lambda _: START + b"Host: x\r\n\r\n", answers={b"200": 200})
    ),
}


@contextmanager
def target_of(kind: str, folder: Path) -> Iterator[Target]:
    options = {"small": ("--body-memory", "60", "--connections", "200")}
    with serving(folder / "data", "--limits", "relaxed", *options.get(kind, ())) as server:
        server.wait_until_ready()
        if kind != "edge":
            yield Target(server)
            return
        with serving(folder / "copies", "--upstream", server.url) as edge:
            edge.wait_until_ready()
            yield Target(edge, server)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Target]]:
    with ExitStack() as stack:
        made: dict[str, Target] = {}

        def target(kind: str) -> Target:
            if kind not in made:
                folder = tmp_path_factory.mktemp(kind)
                made[kind] = stack.enter_context(target_of(kind, folder))
            return made[kind]

        yield target


@pytest.mark.parametrize("name", ROWS)
def test_what_it_costs(targets: Callable[[str], Target], name: str) -> None:
    row = ROWS[name]
    target = targets(row.kind)
    worst = []
    for _ in range(ATTEMPTS):
        wait_for(lambda: target.status("GET", f"{target.values}/held", b"") == 200)
        with ExitStack() as stack, Watch(target.server) as watch:
            row.attack(target, stack)
        assert watch.growth < row.most * MEBIBYTE
        worst.append(watch.worst_s)
        if watch.worst_s < HEALTH_S:
            return
        time.sleep(0.5)
    raise AssertionError(f"/health took {worst} s")


def test_each_row_of_the_page_is_here() -> None:
    table = README.read_text().partition("## What a client can cost")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (?!what |---)([^|]+) \|", table, re.MULTILINE)
    for row in found:
        assert [name for name in ROWS if row.startswith(name)], row
    assert len(found) == len(ROWS)
