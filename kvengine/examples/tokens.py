"""Access tokens and revocation, with Flask.

A token is USER.NUMBER.SECRET.  The database has a hash of the secret under USER.NUMBER, so a
stolen copy of it opens nothing.  A token ends by itself, or when its key is deleted: each request
looks it up, in about two microseconds, so the next request after a revocation is refused.

    AUTH="Authorization: Bearer $ADMIN_TOKEN"                  (the server prints ADMIN_TOKEN)
    curl localhost:8000/users/ada/tokens -H "$AUTH" --json '{"lifetime": 3600, "scopes": ["read"]}'
    curl localhost:8000/me -H "Authorization: Bearer $TOKEN"   ("token" of the answer before)
    curl localhost:8000/users/ada/tokens -H "$AUTH"
    curl localhost:8000/users/ada/tokens/0123456789abcdef -H "$AUTH" -X DELETE
    curl localhost:8000/users/ada/tokens -H "$AUTH" -X DELETE
"""

import hashlib
import hmac
import re
import secrets
from typing import Any

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue

import kvengine
from kvengine.examples.command import example, secret_option
from kvengine.examples.with_flask import check_admin, new_app, serve

USER = re.compile(r"[a-z0-9-]{1,64}")
BEARER = re.compile(r"Bearer ([a-z0-9-]{1,64})\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})")
LIFETIME_MAX = 30 * 24 * 3600


def hashed(secret: str) -> bytes:
    """Return what is stored of a secret; it is 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def holder(kv: kvengine.Namespace, authorization: str) -> dict[str, Any] | None:
    """Return whom a token was issued to and for what; None if it is not, or no longer, valid."""
    token = BEARER.fullmatch(authorization)
    if token is None:
        return None
    found = kv.get_with_metadata(f"{token[1]}.{token[2]}", "bytes")
    if found.value is None or not hmac.compare_digest(found.value, hashed(token[3])):
        return None
    return {"user": token[1], **found.metadata}


def create_app(kv: kvengine.Namespace, admin_token: str) -> Flask:
    """Return the application; tokens are kept in a namespace."""
    app = new_app()

    @app.before_request
    def only_admins() -> None:
        if request.endpoint != "me":
            check_admin(admin_token)

    @app.get("/me")
    def me() -> ResponseReturnValue:
        found = holder(kv, request.headers.get("Authorization", ""))
        return found or ({"error": "no valid token"}, 401, {"WWW-Authenticate": "Bearer"})

    @app.post("/users/<user>/tokens")
    def issue(user: str) -> ResponseReturnValue:
        sent = request.get_json(silent=True)
        asked = sent if isinstance(sent, dict) else {}
        lifetime = asked.get("lifetime")
        if not USER.fullmatch(user):
            abort(400, f"a user must match {USER.pattern}")
        if type(lifetime) is not int or not 0 < lifetime <= LIFETIME_MAX:
            abort(400, f'send JSON: {{"lifetime": 1 to {LIFETIME_MAX}, "scopes": [...]}}')
        number, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        granted = {"scopes": asked.get("scopes", [])}
        kv.put(f"{user}.{number}", hashed(secret), expiration_ttl=lifetime, metadata=granted)
        return {"number": number, "token": f"{user}.{number}.{secret}"}, 201

    @app.get("/users/<user>/tokens")
    def show(user: str) -> ResponseReturnValue:
        return [
            {"number": info.name.partition(".")[2], "expiration": info.expiration, **info.metadata}
            for info in kv.keys(f"{user}.")
        ]

    @app.delete("/users/<user>/tokens")
    def revoke_all(user: str) -> ResponseReturnValue:
        return {"revoked": sum(kv.delete(info.name) > 0 for info in kv.keys(f"{user}."))}

    @app.delete("/users/<user>/tokens/<number>")
    def revoke(user: str, number: str) -> ResponseReturnValue:
        return ("", 204) if kv.delete(f"{user}.{number}") else ({"error": "no such token"}, 404)

    return app


@example(__doc__)
@secret_option("--admin-token", "Allows issuing and revoking tokens.")
def main(data: str, port: int, admin_token: str) -> None:
    """Open the database and serve."""
    with kvengine.open(data) as db:
        app = create_app(db.namespace("tokens"), admin_token)
        hint = """-H "Authorization: Bearer $ADMIN_TOKEN" --json '{"lifetime": 3600}'"""
        serve(app, port, "curl {url}/users/ada/tokens " + hint)


if __name__ == "__main__":
    main()
