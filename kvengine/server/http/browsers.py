"""Protect a server without tokens from pages of other sites in a browser on this machine.

A browser lets any page send requests to a loopback address.  With DNS rebinding, the page can even
read the answers.  With tokens this is harmless, because a page has none.

Invariants:

* A request from a page of another origin is refused.
* A request whose Host is not this machine is refused, except in workerd's protocol, which sends a
  made-up Host.  It needs the id of a namespace, which no page knows.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from kvengine.server.http.messages import Request, Response
from kvengine.server.settings import is_loopback

OWN_SITES = (None, b"same-origin", b"none")  # of Sec-Fetch-Site; "none": the user typed the address


def refusal(request: Request) -> Response | None:
    """Return a refusal if a page of another site may have sent a request, or None."""
    host = (request.header(b"host") or b"").decode("latin-1")
    origin, site = request.header(b"origin"), request.header(b"sec-fetch-site")
    is_foreign = origin is not None and origin.decode("latin-1").partition("://")[2] != host
    if is_foreign or site not in OWN_SITES:
        return Response.json(
            {"error": "cross-origin requests are refused by a server without tokens"}, 403
        )
    is_workerd = request.header(b"kv-namespace") is not None or request.raw_parts[:1] == [
        b"workerd"
    ]
    if not is_workerd and not is_own(host):
        return Response.json(
            {"error": "a server without tokens accepts only localhost or 127.0.0.1 as Host"}, 403
        )
    return None


def is_own(host: str) -> bool:
    """True if a Host header names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is None or is_loopback(name)
