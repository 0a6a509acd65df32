"""/metrics: figures in Prometheus' text format.

Invariants:

* Names follow prometheus.io/docs/practices/naming: a unit at the end, counters end in _total.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kvengine.server.api.token_endpoint import refused
from kvengine.server.auth.access import Refused
from kvengine.server.http.messages import Request, Response
from kvengine.server.monitoring.figure_rows import BOUNDS_S
from kvengine.server.monitoring.figures import Figures


class Collector:
    """Passes the figures to the Prometheus library."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        requests = CounterMetricFamily(
            "kvengine_requests", "Requests answered.", labels=["surface", "action", "status"]
        )
        for (kind, status), count in sorted(self._figures.all_requests().items()):
            requests.add_metric([*kind, str(status)], count)
        yield requests
        times = HistogramMetricFamily(
            "kvengine_request_duration_seconds",
            "Time to answer, without the network; surface hot: reads served by the fast path.",
            labels=["surface", "action"],
        )
        for kind, found in sorted(self._figures.all_times().items()):
            upto, buckets = 0, []
            for bound, count in zip((*BOUNDS_S, "+Inf"), found.counts, strict=True):
                upto += count
                buckets.append((str(bound), upto))
            times.add_metric(list(kind), buckets, found.total_s)
        yield times
        yield GaugeMetricFamily(
            "kvengine_connections", "Open connections.", self._figures.connections
        )
        for name, value in self._figures.of_database().items():
            yield GaugeMetricFamily(f"kvengine_{name}", name.replace("_", " ") + ".", value)


class MetricsEndpoint:
    """The endpoint for Prometheus; it requires any valid token.

    Args:
        figures: of the server.
    """

    def __init__(self, figures: Figures) -> None:
        self._backend = figures.backend
        self._registry = CollectorRegistry()
        self._registry.register(Collector(figures))

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        request.action = "health"
        try:
            await self._backend.admit(request, None, write=False, any_namespace=True)
        except Refused as error:
            return refused(error)
        body = await asyncio.to_thread(generate_latest, self._registry)
        return Response(200, body, [(b"content-type", CONTENT_TYPE_LATEST.encode())])
