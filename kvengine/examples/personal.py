"""Content for each user, and an A/B test, with Flask.

A visitor is known by a cookie.  The color of the button is drawn by a hash of the visitor's id and
then kept: it stays the same when the shares change.  It is metadata of its key too, so that a list
counts the visitors of each color without reading a value.

    AUTH="Authorization: Bearer $ADMIN_TOKEN"                  (the server prints ADMIN_TOKEN)
    curl localhost:8000/ -c jar -b jar
    curl localhost:8000/profile -c jar -b jar -X PUT --json '{"name": "Ada"}'
    curl localhost:8000/click -c jar -b jar -X POST
    curl localhost:8000/experiment -H "$AUTH" -X PUT --json '{"blue": 90, "green": 10}'
    curl localhost:8000/experiment -H "$AUTH"
"""

import hashlib
import re
import secrets
from collections import Counter

from flask import Flask, Response, abort, g, request
from flask.typing import ResponseReturnValue

import kvengine
from kvengine.examples.command import example, secret_option
from kvengine.examples.with_flask import check_admin, new_app, serve

COLOR = re.compile(r"[a-z]{1,20}")
VISITOR = re.compile(r"[A-Za-z0-9_-]{22}")
YEAR_S = 365 * 24 * 3600
FIRST_SHARES = {"blue": 50, "green": 50}


def draw(shares: dict[str, int], visitor: str) -> str:
    """Return a color by a hash of the visitor: always the same, and fair over many."""
    colors = [color for color, share in shares.items() for _ in range(share)]
    hashed = int.from_bytes(hashlib.sha256(f"button/{visitor}".encode()).digest())
    return colors[hashed % len(colors)]


def color_for(kv: kvengine.Namespace, visitor: str) -> str:
    """Return the color that a visitor sees, now and later."""
    key = f"color/{visitor}"
    color = kv.get(key)
    if color is None:
        color = draw(kv.get("shares", "json") or FIRST_SHARES, visitor)
        try:
            shown = {"color": color}
            kv.put(key, color, metadata=shown, expiration_ttl=YEAR_S, if_version=0)
        except kvengine.VersionConflict:  # another request of the same visitor was faster
            color = kv.get(key)
    return str(color)


def create_app(db: kvengine.Database, admin_token: str) -> Flask:
    """Return the application; it has two namespaces in a database."""
    app, profiles, experiment = new_app(), db.namespace("profiles"), db.namespace("experiment")

    @app.before_request
    def recognize() -> None:
        cookie = request.cookies.get("visitor", "")
        g.visitor = cookie if VISITOR.fullmatch(cookie) else secrets.token_urlsafe(16)

    @app.after_request
    def remember(response: Response) -> Response:
        response.set_cookie("visitor", g.visitor, YEAR_S, httponly=True, samesite="Lax")
        return response

    @app.get("/")
    def home() -> ResponseReturnValue:
        name = (profiles.get(g.visitor, "json") or {}).get("name", "stranger")
        return {"greeting": f"Hello, {name}!", "button": color_for(experiment, g.visitor)}

    @app.put("/profile")
    def change_profile() -> ResponseReturnValue:
        profile = request.get_json(silent=True)
        name = profile.get("name") if isinstance(profile, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= 100:
            abort(400, 'send JSON: {"name": 1 to 100 characters}')
        profiles.put(g.visitor, {"name": name}, type="json", expiration_ttl=YEAR_S)
        return {"name": name}

    @app.post("/click")
    def click() -> ResponseReturnValue:
        color = color_for(experiment, g.visitor)
        return {"color": color, "clicks": experiment.increment(f"clicks/{color}")}

    @app.put("/experiment")
    def change_shares() -> ResponseReturnValue:
        check_admin(admin_token)
        sent = request.get_json(silent=True)
        shares = sent if isinstance(sent, dict) else {}
        sound = all(COLOR.fullmatch(c) and type(n) is int and n >= 0 for c, n in shares.items())
        if not sound or sum(shares.values()) != 100:
            abort(400, 'send JSON: {"a color": percent, ...}, 100 percent together')
        experiment.put("shares", shares, type="json")
        return {"shares": shares}

    @app.get("/experiment")
    def show() -> ResponseReturnValue:
        check_admin(admin_token)
        visitors = Counter(info.metadata["color"] for info in experiment.keys("color/"))
        clicks = {color: int(experiment.get(f"clicks/{color}") or 0) for color in visitors}
        shares = experiment.get("shares", "json") or FIRST_SHARES
        return {"shares": shares, "visitors": visitors, "clicks": clicks}

    return app


@example(__doc__)
@secret_option("--admin-token", "Allows seeing and changing the experiment.")
def main(data: str, port: int, admin_token: str) -> None:
    """Open the database and serve."""
    with kvengine.open(data) as db:
        serve(create_app(db, admin_token), port, "curl {url}/ -c jar -b jar")


if __name__ == "__main__":
    main()
