"""OpenTelemetry: a span for each request, and a histogram of durations.

It is active if OpenTelemetry is installed (`pip install 'kvengine[otel]'`) and the environment
names an exporter (OTEL_EXPORTER_OTLP_ENDPOINT).  The fast path for reads is then off, so that each
read has a span.

Names follow the semantic conventions for databases and HTTP (opentelemetry.io/docs/specs/semconv).

Invariants:

* No attribute holds a key, a value, a token or a path.
"""

from __future__ import annotations

import importlib
from typing import Any

from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import SpanKind, StatusCode

from kvengine.clock import SystemClock
from kvengine.server.http.messages import Request

SPANS = {"read": "kv_get", "write": "kv_put", "delete": "kv_delete", "list": "kv_list"}
ERROR = 500
NANOSECONDS = 1_000_000_000


class Spans:
    """Reports requests to OpenTelemetry.

    Args:
        tracer_provider, meter_provider: None: those of the process.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        self._clock = SystemClock()
        self._tracer = trace.get_tracer("kvengine", tracer_provider=tracer_provider)
        meter = metrics.get_meter("kvengine", meter_provider=meter_provider)
        self._times = meter.create_histogram(
            "db.client.operation.duration", unit="s", description="Time to answer a request."
        )

    def observe(self, request: Request, status: int, seconds: float) -> None:
        """Report a request that was answered."""
        name = SPANS.get(request.action, f"kv_{request.action}")
        attributes: dict[str, Any] = {
            "db.system.name": "kvengine",
            "db.operation.name": name.removeprefix("kv_"),
            "http.request.method": request.method,
            "http.response.status_code": status,
        }
        if request.namespace_id is not None:
            attributes["db.namespace"] = request.namespace_id
        ended = int(self._clock.time() * NANOSECONDS)  # spans use the time of day
        context = propagate.extract(
            {"traceparent": (request.header(b"traceparent") or b"").decode("ascii", "replace")}
        )
        span = self._tracer.start_span(
            name,
            context,
            SpanKind.SERVER,
            attributes,
            start_time=ended - int(seconds * NANOSECONDS),
        )
        if status >= ERROR:
            span.set_status(StatusCode.ERROR)
        span.end(ended)
        self._times.record(seconds, attributes)


def from_environment() -> Spans:
    """Return spans that go to the exporter that the environment names."""
    sdk_trace: Any = importlib.import_module("opentelemetry.sdk.trace")
    export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
    otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    tracers = sdk_trace.TracerProvider()
    tracers.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    sdk_metrics: Any = importlib.import_module("opentelemetry.sdk.metrics")
    export = importlib.import_module("opentelemetry.sdk.metrics.export")
    otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    reader = export.PeriodicExportingMetricReader(otlp.OTLPMetricExporter())
    return Spans(tracers, sdk_metrics.MeterProvider([reader]))
