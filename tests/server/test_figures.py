"""Figures, logs and spans: what they say, and that they never say what is stored."""

from __future__ import annotations

import io
import json
import logging
import math
import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kvengine.errors import StoreReadOnly
from kvengine.server.http.messages import Request
from kvengine.server.monitoring import logs, spans
from kvengine.server.monitoring.figure_rows import BOUNDS_S
from kvengine.server.monitoring.figures import Times
from tests.server.rest.test_values import path
from tests.server.running import Running, running
from tests.server.workerd.test_wire import ask

SECRET = "Sup3rSecretThing"


def samples(server: Running) -> dict[tuple[str, ...], float]:
    """Return the figures by name and labels."""
    answer = server.http.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted(server: Running) -> None:
    where = path(server, "values/k")
    server.http.put(where, content=b"v")
    for _ in range(5):
        server.http.get(where)
    server.http.get(path(server, "values/absent"))
    server.http.get(path(server, "keys"))
    for _ in range(2):
        ask(server, "GET /k?urlencoded=true")
        ask(server, "GET /absent?urlencoded=true")
    found = samples(server)
    name = "kvengine_requests_total"
    assert found[name, "read", "200", "rest"] == 5
    assert found[name, "read", "404", "rest"] == 1
    assert found[name, "write", "200", "rest"] == 1
    assert found[name, "list", "200", "rest"] == 1
    assert found[name, "read", "200", "workerd"] == 2
    assert found[name, "read", "404", "workerd"] == 2
    count = "kvengine_request_duration_seconds_count"
    assert found[count, "read", "hot"] + found.get((count, "read", "rest"), 0) == 10
    assert found["kvengine_store_version",] == server.db.version
    assert found["kvengine_store_keys",] > 0


def test_who_may_see_them(server: Running) -> None:
    assert httpx.get(f"{server.url}/metrics").status_code == 401


def test_nothing_that_is_stored_is_told(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logging.getLogger("kvengine").addHandler(handler)
    logging.getLogger("kvengine").setLevel(logging.INFO)
    try:
        with running(access_log=True) as server:
            where = path(server, f"values/{SECRET}")
            form = {"value": SECRET.encode(), "metadata": (None, f'"{SECRET}"')}
            server.http.put(where, files=form)
            server.http.get(where)
            server.http.get(path(server, f"keys?prefix={SECRET}"))
            server.http.get(f"/{SECRET}", headers={"authorization": f"Bearer {SECRET}"})
            server.raw(f"GET {SECRET} {SECRET}\r\n\r\n".encode())
            told = server.http.get("/metrics").text
    finally:
        logging.getLogger("kvengine").removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["status"] for line in lines] == [200, 200, 200, 404, 200]
    assert lines[0]["action"] == "write"
    captured = capfd.readouterr()
    for text in (stream.getvalue(), told, caplog.text, captured.out, captured.err):
        assert SECRET not in text


def test_an_exception_is_logged_as_json() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("one")
    logger.addHandler(handler)
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("what")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"]) == ("error", "what")
    assert "ValueError: why" in line["exception"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", line["time"])


def test_spans() -> None:
    trace: Any = pytest.importorskip("opentelemetry.sdk.trace")
    export: Any = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory: Any = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    told = spans.Spans(provider)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = [(b"traceparent", parent.encode())]
    scope = {"method": "GET", "raw_path": b"/" + SECRET.encode(), "headers": headers}
    request = Request(scope, None)
    request.action, request.namespace_id = "read", "0" * 32
    told.observe(request, 503, 0.25)
    [span] = exporter.get_finished_spans()
    assert span.name == "kv_get"
    assert span.attributes["db.system.name"] == "kvengine"
    assert span.attributes["db.namespace"] == "0" * 32
    assert span.attributes["http.response.status_code"] == 503
    assert not span.status.is_ok
    assert span.end_time - span.start_time == 250_000_000
    assert f"{span.parent.trace_id:032x}" in parent
    assert SECRET not in span.to_json()


@given(st.lists(st.floats(1e-6, 20), min_size=1, max_size=50), st.floats(0.01, 1))
def test_quantiles(times: list[float], share: float) -> None:
    found = Times()
    for time in times:
        found.add(time)
    exact = sorted(times)[max(0, math.ceil(share * len(times)) - 1)]
    bound = found.quantile(share)
    assert exact <= bound
    lower = [0.0, *BOUNDS_S][[*BOUNDS_S, float("inf")].index(bound)]
    assert exact >= lower
    assert Times().quantile(0.5) == 0.0


def test_health(server: Running) -> None:
    assert httpx.get(f"{server.url}/health").text == "ok\n"
    assert httpx.get(f"{server.url}/ready").json() == {"ready": True}
    assert httpx.get(f"{server.url}/version").json()["name"] == "kvengine"
    server.db.store._parts.maintenance.failures.note(OSError(5, "the disk complains"))
    answer = httpx.get(f"{server.url}/ready")
    assert answer.status_code == 200  # it serves, but somebody should look
    assert "the disk complains" in answer.json()["warning"]
    server.db.store._parts.maintenance.failures.over()
    assert httpx.get(f"{server.url}/ready").json() == {"ready": True}
    server.db.store._parts.refuse_writes(StoreReadOnly("no room"))
    answer = httpx.get(f"{server.url}/ready")
    assert answer.status_code == 503
    assert "no room" in answer.json()["why"]
