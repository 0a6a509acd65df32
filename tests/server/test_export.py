"""OpenTelemetry from the environment: spans and times arrive, and nothing that is stored does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.processes import serving
from tests.server.running import ACCOUNT, TOKEN

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install 'kvengine[otel]'")
BOUND_S = 30.0
SECRET = "Sup3rSecretThing"


@pytest.fixture
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """A collector; gives its URL, and what came by path."""
    found: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found[self.path].append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", found
        server.shutdown()
        thread.join()


def test_spans_and_times_arrive(tmp_path: Path, collector: Any) -> None:
    url, found = collector
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with serving(tmp_path, **environment) as server:
        server.wait_until_ready()
        base = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        with httpx.Client(headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as http:
            namespace = http.get(base).json()["result"][0]["id"]
            where = f"{base}/{namespace}/values/{SECRET}"
            assert http.put(where, content=SECRET).status_code == 200
            for _ in range(3):
                assert http.get(where).text == SECRET
        deadline = time.monotonic() + BOUND_S
        spans, times = b"", b""
        while b"kv_get" not in spans or b"get" not in times:
            assert time.monotonic() < deadline, (len(spans), len(times))
            spans, times = b"".join(found["/v1/traces"]), b"".join(found["/v1/metrics"])
            time.sleep(0.02)
    assert b"kv_put" in spans
    assert namespace.encode() in spans
    assert b"db.client.operation.duration" in times
    for text in (SECRET, TOKEN):
        assert text.encode() not in spans + times
