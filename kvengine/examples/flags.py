"""Feature flags with a kill switch, with FastAPI and async functions.

A flag says for how many percent of the users a feature is on.  Every request asks and nothing is
cached: a small value is read in about a microsecond, without leaving the event loop's thread.

The kill switch turns every feature off from the next request on.  A person throws it with a POST;
a script on this machine may as well do it with `kvengine key put --namespace flags kill REASON`.

    AUTH="Authorization: Bearer $ADMIN_TOKEN"                  (the server prints ADMIN_TOKEN)
    curl "localhost:8000/checkout?user=ada"
    curl localhost:8000/flags/express-checkout -H "$AUTH" -X PUT --json '{"percent": 50}'
    curl localhost:8000/kill -H "$AUTH" --json '{"reason": "payments fail"}'
    curl localhost:8000/flags
    curl localhost:8000/kill -H "$AUTH" -X DELETE
"""

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import Body, FastAPI, Path

import kvengine.aio
from kvengine.aio import Namespace
from kvengine.examples.command import example, secret_option
from kvengine.examples.with_fastapi import new_app, only, serve

KILL = "kill"
FLAG = "flag/"  # then the name of the flag

Name = Annotated[str, Path(pattern="^[a-z0-9-]{1,64}$")]
Percent = Annotated[int, Body(embed=True, ge=0, le=100, strict=True)]
Reason = Annotated[str, Body(embed=True, max_length=200)]


async def enabled(kv: Namespace, flag: str, user: str) -> bool:
    """Return whether a feature is on for a user: always the same while the percentage is."""
    if await kv.get(KILL) is not None:
        return False
    bucket = int.from_bytes(hashlib.sha256(f"{flag}/{user}".encode()).digest()) % 100
    return bucket < int(await kv.get(FLAG + flag) or 0)


def create_app(kv: Namespace, admin_token: str) -> FastAPI:
    """Return the application; flags are kept in a namespace."""
    app, admin = new_app("Feature flags"), only(admin_token)

    @app.get("/checkout")
    async def checkout(user: str) -> dict[str, str]:
        express = await enabled(kv, "express-checkout", user)
        return {"checkout": "express" if express else "classic"}

    @app.get("/flags")
    async def show() -> dict[str, Any]:
        percents = await kv.get_many([info.name async for info in kv.keys(FLAG)])
        return {
            "killed": await kv.get(KILL),
            "percent": {name.removeprefix(FLAG): int(percents[name] or 0) for name in percents},
        }

    @app.put("/flags/{name}", dependencies=[admin])
    async def change(name: Name, percent: Percent) -> dict[str, int]:
        await kv.put(FLAG + name, str(percent))
        return {name: percent}

    @app.post("/kill", dependencies=[admin])
    async def kill(reason: Reason) -> dict[str, str]:
        await kv.put(KILL, reason)
        return {"killed": reason}

    @app.delete("/kill", status_code=204, dependencies=[admin])
    async def revive() -> None:
        await kv.delete(KILL)

    return app


@example(__doc__)
@secret_option("--admin-token", "Allows changing flags and using the kill switch.")
def main(data: str, port: int, admin_token: str) -> None:
    """Open the database and serve."""

    async def run() -> None:
        async with kvengine.aio.open(data) as db:
            app = create_app(await db.namespace("flags"), admin_token)
            await serve(app, port, 'curl "{url}/checkout?user=ada"')

    asyncio.run(run())


if __name__ == "__main__":
    main()
