"""A site: a backend with its endpoints and monitoring.

Invariants:

* Only this module and the application decide which endpoint answers a request.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from kvengine.server.api.admitted import Admitted, not_admitted
from kvengine.server.api.edge_endpoints import EdgeEndpoint
from kvengine.server.api.json_endpoint import ANSWERS_IN_JSON, JsonEndpoint
from kvengine.server.api.openapi import openapi_endpoint
from kvengine.server.api.rest.endpoint import RestEndpoint
from kvengine.server.api.token_endpoint import TokenEndpoint
from kvengine.server.api.v1 import V1Endpoint
from kvengine.server.api.workerd import WorkerdEndpoint
from kvengine.server.backend import Backend
from kvengine.server.console import Console
from kvengine.server.http import browsers
from kvengine.server.http.app import App, Branch, Endpoint, Observer
from kvengine.server.http.hot import HotEndpoint
from kvengine.server.http.messages import Request, Response
from kvengine.server.monitoring.figures import Figures
from kvengine.server.monitoring.health import Ready, health, show_version
from kvengine.server.monitoring.live import Live
from kvengine.server.monitoring.logs import log_request
from kvengine.server.monitoring.metrics import MetricsEndpoint
from kvengine.server.settings import ServerSettings

if TYPE_CHECKING:
    from kvengine.server.api.analytics import Analytics


class Site:
    """A backend with its endpoints and monitoring.

    Args:
        backend: of the endpoints.
        settings: of the server.
        primary: forwards what an edge can't answer; None: this is a primary.
    """

    def __init__(
        self,
        backend: Backend,
        settings: ServerSettings,
        primary: Endpoint | None = None,
    ) -> None:
        self.backend, self.settings = backend, settings
        self._primary = None if primary is None else Admitted(backend, primary)
        self.figures = Figures(backend)
        self.ready = Ready(backend)
        self.observers: list[Observer] = [self.figures.observe]
        if settings.access_log:
            self.observers.append(log_request)
        self.is_traced = spans_are_wanted()
        if self.is_traced:
            self.observers.append(make_spans())

    @property
    def hot(self) -> HotEndpoint | None:
        """The fast path for reads; None if logs or traces need each request."""
        return None if self.settings.access_log or self.is_traced else self.backend.hot

    def app(self) -> App:
        """Return the application."""
        rest: Endpoint = RestEndpoint(self.backend, functools.cache(self._analytics))
        workerd: Endpoint = WorkerdEndpoint(self.backend)
        endpoints: dict[bytes, Endpoint] = {
            b"health": health,
            b"ready": self.ready,
            b"version": show_version,
            b"openapi.json": openapi_endpoint,
            b"metrics": MetricsEndpoint(self.figures),
        }
        console = Console(nothing_here)
        endpoints |= {b"": console, b"console": console}
        if self._primary is None:
            endpoints[b"v1"] = self._v1()
        else:
            rest, workerd = EdgeEndpoint(rest, self._primary), EdgeEndpoint(workerd, self._primary)
            endpoints[b"v1"] = self._primary
        endpoints |= {b"client": rest, b"workerd": workerd}
        # A browser does not reach a Unix socket.
        is_exposed = self.settings.is_open and self.settings.unix_socket is None
        self.backend.hot.is_own_host = browsers.is_own if is_exposed else None
        guard = browsers.refusal if is_exposed else None
        return App(endpoints, workerd, self.observers, guard, not_admitted)

    def _analytics(self) -> Analytics:
        # GraphQL takes longer to import than the rest of a server, and few clients use it.
        from kvengine.server.api.analytics import Analytics  # noqa: PLC0415

        return Analytics(self.backend, self.figures)

    def _v1(self) -> Endpoint:
        live = Live(self.backend, self.figures)
        plain: Endpoint = JsonEndpoint(self.backend, live)
        branches: dict[bytes, Endpoint] = dict.fromkeys(ANSWERS_IN_JSON, plain)
        branches[b"tokens"] = TokenEndpoint(self.backend)
        return Branch(branches, V1Endpoint(self.backend, live))


def spans_are_wanted() -> bool:
    """True if OpenTelemetry is installed and has an exporter."""
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")) and (
        importlib.util.find_spec("opentelemetry.sdk") is not None
    )


def make_spans() -> Observer:
    """Return the observer that reports to OpenTelemetry; its module needs an extra."""
    spans: Any = importlib.import_module("kvengine.server.monitoring.spans")
    observe: Observer = spans.from_environment().observe
    return observe


async def nothing_here(request: Request) -> Response:
    """Respond to a path without an endpoint."""
    return Response.text(404, "not found")
