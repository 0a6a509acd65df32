"""A log of webhooks, newest first, with FastAPI and async functions.

A sender signs each delivery with a secret (HMAC, as GitHub does).  What is answered with 202 is on
disk.  Keys begin with the source and the time, so a list by prefix in reverse is the newest first,
a page at a time, and metadata shows what each was.  A delivery ends by itself after some days.

    BODY='{"action": "opened"}'                 (the server prints WEBHOOK_SECRET and ADMIN_TOKEN)
    MAC=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -r | cut -d " " -f 1)
    curl localhost:8000/hooks/shop -H "X-Hub-Signature-256: sha256=$MAC" --json "$BODY"
    AUTH="Authorization: Bearer $ADMIN_TOKEN"
    curl "localhost:8000/hooks/shop?limit=10" -H "$AUTH"       (then &cursor=... of the answer)
    curl localhost:8000/hooks/shop/ID -H "$AUTH"
"""

import asyncio
import hashlib
import hmac
import secrets
from typing import Annotated, Any

import click
from fastapi import FastAPI, Header, HTTPException, Path, Query, Request, Response

import kvengine.aio
from kvengine.aio import Database
from kvengine.examples.command import example, secret_option
from kvengine.examples.with_fastapi import new_app, only, serve

BODY_BYTES_MAX = 1 << 20
DAY_S = 24 * 3600
PLAIN = "text/plain"

Source = Annotated[str, Path(pattern="^[a-z0-9-]{1,64}$")]
Text = Annotated[str, Header(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=1000)]


async def body_of(request: Request) -> bytes:
    """Return the body of a request, unless it is too long."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise HTTPException(413, f"a delivery has at most {BODY_BYTES_MAX} bytes")
    return bytes(body)


async def create_app(db: Database, secret: str, admin_token: str, keep_days: int) -> FastAPI:
    """Return the application; deliveries are kept in a namespace of a database."""
    app, admin, kv = new_app("Webhooks"), only(admin_token), await db.namespace("webhooks")

    @app.post("/hooks/{source}", status_code=202)
    async def receive(
        source: Source, request: Request, x_hub_signature_256: Text = "", x_github_event: Text = ""
    ) -> dict[str, str]:
        body = await body_of(request)
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), x_hub_signature_256.encode()):
            raise HTTPException(401, "X-Hub-Signature-256 does not fit the body and the secret")
        microseconds = int(db.clock.time() * 1e6)
        delivery = f"{microseconds:016d}-{secrets.token_hex(4)}"  # no two are the same
        key, shown = f"{source}/{delivery}", {"event": x_github_event, "bytes": len(body)}
        life = keep_days * DAY_S
        await kv.put(key, body, expiration_ttl=life, metadata=shown)
        return {"id": delivery}

    @app.get("/hooks/{source}", dependencies=[admin])
    async def show(source: Source, limit: Limit = 20, cursor: str | None = None) -> dict[str, Any]:
        page = await kv.list(f"{source}/", limit, cursor, reverse=True)
        deliveries = [
            {"id": info.name.partition("/")[2], "expiration": info.expiration, **info.metadata}
            for info in page.keys
        ]
        return {"deliveries": deliveries, "cursor": page.cursor}

    @app.get("/hooks/{source}/{delivery}", dependencies=[admin])
    async def read(source: Source, delivery: str) -> Response:
        body = await kv.get(f"{source}/{delivery}", "bytes")
        if body is None:
            raise HTTPException(404, "there is no such delivery, or no longer")
        # As text, whatever it is: a browser must not run what a sender has sent.
        return Response(body, headers={"X-Content-Type-Options": "nosniff"}, media_type=PLAIN)

    return app


@example(__doc__)
@secret_option("--webhook-secret", "What senders sign with.")
@secret_option("--admin-token", "Allows reading the log.")
@click.option("--keep-days", type=click.IntRange(1, 3650), default=30, show_default=True)
def main(data: str, port: int, webhook_secret: str, admin_token: str, keep_days: int) -> None:
    """Open the database and serve."""

    async def run() -> None:
        async with kvengine.aio.open(data) as db:
            app = await create_app(db, webhook_secret, admin_token, keep_days)
            await serve(app, port, 'curl {url}/hooks/shop -H "Authorization: Bearer $ADMIN_TOKEN"')

    asyncio.run(run())


if __name__ == "__main__":
    main()
