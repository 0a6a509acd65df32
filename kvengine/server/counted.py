"""What readers have counted, told to the writer: usage, and figures for /metrics.

The writer's answer says how it fares, for /ready of the readers.

Invariants:

* What was told is counted once: a reader forgets it when the writer has answered, and not before;
  the writer knows each report by the name of its reader and a number, also if its answer was lost.
* Nobody but the processes of one server has the secret.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from contextlib import suppress
from typing import Any

import httpx

from kvengine.errors import NamespaceNotFound
from kvengine.server.backend import Backend
from kvengine.server.figures import Figures
from kvengine.server.health import Ready
from kvengine.server.messages import Request, Response

logger = logging.getLogger("kvengine.server")
PAUSE_S = 1.0
READERS_MAX = 1000  # of which the writer remembers how far they have told
BODY_BYTES_MAX = 16 << 20
METERED = ("reads", "lists", "bytes_out")


class CountedDoor:
    """Where the writer is told.

    Args:
        backend: whose usage it is.
        figures: of the writer.
        secret: that readers send.
        ready: of the writer.
    """

    def __init__(self, backend: Backend, figures: Figures, secret: str, ready: Ready) -> None:
        self._backend, self._figures, self._secret = backend, figures, secret.encode()
        self._ready = ready
        self._heard: dict[str, int] = {}  # the number of the last report of each reader

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        request.action = "health"
        found = request.header(b"kv-secret") or b""
        if not hmac.compare_digest(found, self._secret):
            return Response.text(404, "there is nothing here")
        told = json.loads(await request.body(BODY_BYTES_MAX, "too much was counted"))
        name, number = str(told["reader"]), int(told["number"])
        heard = self._heard.pop(name, 0)
        self._heard[name] = max(heard, number)  # the last to be forgotten
        if number <= heard:
            return self._said()
        if len(self._heard) > READERS_MAX:
            del self._heard[next(iter(self._heard))]
        self._figures.add(told["figures"])
        for namespace_id, counts in told["usage"].items():
            with suppress(NamespaceNotFound):  # it was deleted meanwhile
                meter = (await self._backend.database.namespace_by_id(namespace_id)).meter
                for name, count in zip(METERED, counts, strict=True):
                    setattr(meter, name, getattr(meter, name) + count)
        return self._said()

    def _said(self) -> Response:
        return Response.json({"why": self._ready.why_not(), "warning": self._ready.warning()})


class Telling:
    """What a reader tells.

    Args:
        backend, figures: of the reader.
        path: of the writer's Unix socket.
        secret: that it expects.
        ready: of the reader.
    """

    def __init__(
        self, backend: Backend, figures: Figures, path: str, secret: str, ready: Ready
    ) -> None:
        self._backend, self._figures, self._ready = backend, figures, ready
        self._name, self._number = secrets.token_hex(8), 0
        self._told: dict[str, list[int]] = {}
        self._waiting: list[dict[str, Any]] = []
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path),
            headers={"kv-secret": secret},
            base_url="http://localhost",
        )

    async def run(self) -> None:
        """Tell every second, until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell what was counted since the last time."""
        self._number += 1
        report = {"reader": self._name, "number": self._number}
        self._waiting.append({**report, "figures": self._figures.take(), "usage": self._usage()})
        try:
            while self._waiting:
                answer = await self._http.post("/counted", json=self._waiting[0])
                answer.raise_for_status()
                del self._waiting[0]
                said = answer.json()
                self._ready.writer_why, self._ready.writer_warning = said["why"], said["warning"]
        except httpx.HTTPError as error:
            logger.info("the writer was not told what was counted: %s", type(error).__name__)

    async def close(self) -> None:
        """Tell what is left."""
        await self.tell()
        await self._http.aclose()

    def _usage(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for namespace in self._backend.database._namespaces.values():
            counts = [getattr(namespace.meter, name) for name in METERED]
            old = self._told.get(namespace.id, [0] * len(METERED))
            new = [now - then for now, then in zip(counts, old, strict=True)]
            if any(new):
                found[namespace.id] = new
                self._told[namespace.id] = counts
        return found
