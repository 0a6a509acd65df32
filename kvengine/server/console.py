"""The console: one page at /, with its files under /console/.

The page contains no data.  It asks for a token, and then uses the public endpoints, so it can do
only what the token allows.

Invariants:

* The page loads and runs only its own files; its Content-Security-Policy enforces this.
* Only the files that exist when the server starts are served.
"""

from __future__ import annotations

from importlib import resources

from kvengine.server.http.app import Endpoint
from kvengine.server.http.messages import Request, Response

TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
PAGE = "index.html"
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)


class Console:
    """The endpoint of the console.

    Args:
        other: answers all other paths.
    """

    def __init__(self, other: Endpoint) -> None:
        self._other = other
        self._files = files()

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        path = request.raw_path
        name = PAGE if path == b"/" else path.removeprefix(b"/console/").decode("ascii", "replace")
        found = self._files.get(name)
        if found is None:
            return await self._other(request)
        request.surface = "console"
        if request.method not in ("GET", "HEAD"):
            return Response.text(405, "method not allowed; use GET")
        kind, body = found
        return Response(200, body, [(b"content-type", kind), *HEADERS])


def files() -> dict[str, tuple[bytes, bytes]]:
    """Return the type and the content of each file of the console, by name."""
    found = {}
    for entry in resources.files("kvengine.server").joinpath("page").iterdir():
        kind = TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            found[entry.name] = kind, entry.read_bytes()
    return found
