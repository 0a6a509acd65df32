"""FastAPI, as the examples use it: errors of kvengine, admin tokens, a server (uvicorn)."""

from socket import socket
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

import kvengine
from kvengine.examples.command import announce, is_admin, listen

FINISH_S = 5  # what requests under way have left when the server stops


def new_app(title: str) -> FastAPI:
    """Return an application that answers {"detail": why} when FastAPI or kvengine refuses."""
    app = FastAPI(title=title)

    @app.exception_handler(RequestValidationError)
    async def explain(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # without its input, which may be long, or not even text
        where = ".".join(map(str, first["loc"]))
        return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(kvengine.InvalidRequest)
    async def refuse(_request: Request, error: kvengine.InvalidRequest) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, getattr(error, "status", 400))

    return app


def only(admin_token: str) -> Any:
    """Return a dependency that refuses requests without the admin's token."""

    async def check(authorization: Annotated[str | None, Header()] = None) -> None:
        if not is_admin(authorization, admin_token):
            raise HTTPException(401, "this needs the admin's token: Authorization: Bearer ...")

    return Depends(check)


async def serve(app: FastAPI, port: int, hint: str) -> None:
    """Serve until a signal comes; see announce() for the hint."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket] | None = None) -> None:
            await super().startup(sockets)
            announce(listener, hint)

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=FINISH_S)
    with listen(port) as listener:
        await Server(config).serve(sockets=[listener])
