"""Flask, as the examples use it: errors as JSON, and a server of threads (waitress)."""

import logging
from typing import Any

from flask import Flask, abort, request
from waitress.server import create_server
from werkzeug.exceptions import HTTPException

import kvengine
from kvengine.examples.command import announce, is_admin, listen

BODY_BYTES_MAX = 1 << 16


def new_app() -> Flask:
    """Return an application that answers {"error": why} to abort(), and when kvengine refuses."""
    app = Flask("kvengine.examples", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.description}, error.code or 500

    @app.errorhandler(kvengine.InvalidRequest)
    def refuse(error: kvengine.InvalidRequest) -> tuple[dict[str, Any], int]:
        return {"error": str(error)}, getattr(error, "status", 400)

    return app


def check_admin(admin_token: str) -> None:
    """Abort a request that does not have the admin's token."""
    if not is_admin(request.headers.get("Authorization"), admin_token):
        abort(401, "this needs the admin's token: Authorization: Bearer ...")


def serve(app: Flask, port: int, hint: str) -> None:
    """Serve until a signal comes; see announce() for the hint."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no fault
    with listen(port) as listener:
        server = create_server(app, sockets=[listener])
        try:
            announce(listener, hint)
            server.run()  # it returns after SystemExit, when its threads have finished
        finally:
            server.close()
