"""A site: a backend with its doors, and what watches it.

Invariants:

* Which door answers is decided here, and in the application that uses the doors, nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from kvengine.server import browsers
from kvengine.server.analytics import Analytics
from kvengine.server.app import App, Branch, Door, Observer
from kvengine.server.backend import Backend
from kvengine.server.console import Console
from kvengine.server.edge_doors import EdgeDoor
from kvengine.server.figures import Figures
from kvengine.server.forward import Admitted, not_admitted
from kvengine.server.health import Ready, health, show_version
from kvengine.server.hot import HotDoor
from kvengine.server.json_door import ANSWERS_IN_JSON, JsonDoor
from kvengine.server.live import Live
from kvengine.server.logs import log_request
from kvengine.server.messages import Request, Response
from kvengine.server.metrics import MetricsDoor
from kvengine.server.openapi import openapi_door
from kvengine.server.rest.door import RestDoor
from kvengine.server.settings import ServerSettings
from kvengine.server.token_door import TokenDoor
from kvengine.server.v1 import V1Door
from kvengine.server.workerd import WorkerdDoor


class Site:
    """A backend with its doors: the application, and what it is watched by.

    Args:
        backend: what the doors stand on.
        settings: of the server.
        center: of a location: answers what it does not answer itself.
    """

    def __init__(
        self,
        backend: Backend,
        settings: ServerSettings,
        center: Door | None = None,
    ) -> None:
        self.backend, self.settings = backend, settings
        self._center = None if center is None else Admitted(backend, center)
        self.figures = Figures(backend)
        self.ready = Ready(backend)
        self.observers: list[Observer] = [self.figures.observe]
        if settings.access_log:
            self.observers.append(log_request)
        self.is_traced = spans_are_wanted()
        if self.is_traced:
            self.observers.append(make_spans())

    @property
    def hot(self) -> HotDoor | None:
        """What answers before the application; None if each request is to be seen."""
        return None if self.settings.access_log or self.is_traced else self.backend.hot

    def app(self) -> App:
        """Return the application."""
        rest: Door = RestDoor(self.backend, Analytics(self.backend, self.figures))
        workerd: Door = WorkerdDoor(self.backend)
        doors: dict[bytes, Door] = {
            b"health": health,
            b"ready": self.ready,
            b"version": show_version,
            b"openapi.json": openapi_door,
            b"metrics": MetricsDoor(self.figures),
        }
        console = Console(nothing_here)
        doors |= {b"": console, b"console": console}
        if self._center is None:
            doors[b"v1"] = self._v1()
        else:
            rest, workerd = EdgeDoor(rest, self._center), EdgeDoor(workerd, self._center)
            doors[b"v1"] = self._center
        doors |= {b"client": rest, b"workerd": workerd}
        # A browser does not reach a Unix socket.
        is_exposed = self.settings.is_open and self.settings.unix_socket is None
        self.backend.hot.is_own_host = browsers.is_own if is_exposed else None
        guard = browsers.refusal if is_exposed else None
        return App(doors, workerd, self.observers, guard, not_admitted)

    def _v1(self) -> Door:
        live = Live(self.backend, self.figures)
        plain: Door = JsonDoor(self.backend, live)
        branches: dict[bytes, Door] = dict.fromkeys(ANSWERS_IN_JSON, plain)
        branches[b"tokens"] = TokenDoor(self.backend)
        return Branch(branches, V1Door(self.backend, live))


def spans_are_wanted() -> bool:
    """True if OpenTelemetry is there and was told where to send spans."""
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")) and (
        importlib.util.find_spec("opentelemetry.sdk") is not None
    )


def make_spans() -> Observer:
    """Return what tells OpenTelemetry of requests; the module is part of an extra."""
    spans: Any = importlib.import_module("kvengine.server.spans")
    observe: Observer = spans.from_environment().observe
    return observe


async def nothing_here(request: Request) -> Response:
    """Answer what no door is for."""
    return Response.text(404, "there is nothing here")
