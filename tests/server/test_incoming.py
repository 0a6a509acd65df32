"""Values on their way in: whole again whatever their pieces, and memory that does not grow."""

from __future__ import annotations

import errno
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.server.http.body import incoming
from kvengine.server.http.body.incoming import Incoming
from tests.server.processes import serving
from tests.server.rest.test_values import path
from tests.server.running import ACCOUNT, TOKEN, Running

MEBIBYTE = 1 << 20


@given(st.lists(st.binary(max_size=40)), st.integers(0, 200))
def test_what_comes_is_what_was_sent(pieces: list[bytes], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incoming, "IN_MEMORY_BYTES", 50)
        found = Incoming(most)
        for piece in pieces:
            found.add(piece)
    whole = b"".join(pieces)
    assert found.size == len(whole)
    if len(whole) <= most:
        view = found.view()
        found.close()
        assert view == whole
    else:
        found.close()


def test_a_large_one_is_not_in_memory() -> None:
    found = Incoming(3 * MEBIBYTE)
    for _ in range(3):
        found.add(bytes(MEBIBYTE))
    assert found._start == b""
    assert found.view() == bytes(3 * MEBIBYTE)
    found.add(b"x")
    assert found._file is None
    assert found.size == 3 * MEBIBYTE + 1


@pytest.mark.parametrize("where", ["values/k", "bulk"])
def test_no_room_for_a_large_one(
    server: Running, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    body = b"x" * (2 * MEBIBYTE)
    if where == "bulk":
        body = b'[{"key": "k", "value": "' + body + b'"}]'
    answer = server.http.put(path(server, where), content=body)
    assert answer.status_code == 503
    assert "No space left on device" in answer.json()["errors"][0]["message"]
    assert server.db.namespace("here").count() == 0
    namespace = server.namespace_id("here")
    if where != "bulk":
        found = server.http.put(
            "/k?urlencoded=true", content=body, headers={"kv-namespace": namespace}
        )
        assert found.status_code == 503
        assert "No space left" in found.reason_phrase
    assert server.http.put(path(server, "values/k"), content=b"small").status_code == 200


def own_memory(pid: int) -> int:
    """Return the bytes that a process has for itself."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    return 0


def test_many_large_values_at_once(tmp_path: Path) -> None:
    count, size = 10, 25 * MEBIBYTE
    with serving(tmp_path, "--limits", "relaxed") as server:
        server.wait_until_ready()
        base = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        with httpx.Client(headers={"authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
            namespace = http.get(base).json()["result"][0]["id"]

            def slowly(number: int) -> Any:
                for _ in range(size // MEBIBYTE):
                    yield b"%d" % number * MEBIBYTE
                    time.sleep(0.01)

            def put(number: int) -> int:
                where = f"{base}/{namespace}/values/k{number}"
                return http.put(where, content=slowly(number)).status_code

            before, peak = own_memory(server.process.pid), 0
            with ThreadPoolExecutor(count) as threads:
                puts = [threads.submit(put, number) for number in range(count)]
                while not all(one.done() for one in puts):
                    peak = max(peak, own_memory(server.process.pid))
                    time.sleep(0.005)
            assert [one.result() for one in puts] == [200] * count
            assert http.get(f"{base}/{namespace}/values/k7").content == b"7" * size
        assert peak - before < 3 * size  # of ten
        assert own_memory(server.process.pid) - before < size
